# SPDX-License-Identifier: Apache-2.0
"""OV2Seg gives what its published code gave."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

# For `import published` in whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parents[1]))

import published  # noqa: E402

published.load_tool('analysis_tools/check_parity.py')

from parity import ov2seg  # noqa: E402  (the tool knows where it is)


@pytest.fixture(scope='module')
def fixture() -> dict[str, np.ndarray]:
    with np.load(published.DATA / 'ov2seg.npz') as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope='module')
def model(fixture) -> torch.nn.Module:
    """The model with drawn weights, converted from a published checkpoint."""
    return ov2seg.build_model(published.shapes('ov2seg'), fixture)


def failed(lines: list) -> set[str]:
    """Names of the outputs that differ."""
    return {line.name for line in lines if not line.passed}


def test_gives_what_the_published_model_gave(model, fixture):
    lines = ov2seg.check_model(model, fixture)
    assert len(lines) == 61 and failed(lines) == set()
    assert all(line.difference < 1e-4 for line in lines), 'far below the bounds'


def test_other_linking_naming_and_losses_give_something_else(model, fixture, monkeypatch):
    monkeypatch.setattr(model.tracker, 'momentum', 0.1)
    monkeypatch.setattr(model.classifier, 'logit_scale', 40.0)
    monkeypatch.setattr(model.decode_head.criterion, 'name_weight', 2.0)
    found = failed(ov2seg.check_model(model, fixture))
    assert found >= {'class_logits', 'clip_class_logits', 'loss/loss_ce', 'loss/loss_ce_5'}
    assert not found & {'object_logits', 'pred_masks', 'loss/loss_mask', 'loss/loss_dice'}
