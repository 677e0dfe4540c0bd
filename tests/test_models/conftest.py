# SPDX-License-Identifier: Apache-2.0
"""Fixtures for the tests of the model."""

import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

# For `import tiny_model` in whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parents[1]))

import tiny_model  # noqa: E402


@pytest.fixture(autouse=True, scope='session')
def scope():
    """Types without a prefix are those of mmseg, as in the configs."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def fixed_points(monkeypatch):
    """Points of the losses that are the same for every clip, target and layer."""
    monkeypatch.setattr(torch, 'rand', tiny_model.same_points)
