# SPDX-License-Identifier: Apache-2.0
"""What all tests share: one thread, and the same chance in every run."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

import ovavss_mm  # noqa: F401  (before any import of mmseg, mmdet or mmcv.ops)
from ovavss_mm.utils import products

torch.set_num_threads(1)
products.is_amd_with_avx512 = lambda: False  # a tool that runs in this process leaves torch's products to the others
# The same examples each time: a test that fails by chance says nothing of the change it is run for.
settings.register_profile('same', derandomize=True, deadline=None)
settings.load_profile('same')


@pytest.fixture(autouse=True)
def seed():
    """Seed every source of chance, so that a test gives the same alone and among others."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def repo_root() -> Path:
    """Give the root of the checkout."""
    return Path(__file__).resolve().parents[1]
