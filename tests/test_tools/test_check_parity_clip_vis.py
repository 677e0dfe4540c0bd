# SPDX-License-Identifier: Apache-2.0
"""CLIP-VIS gives what its published code gave."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

# For `import published` in whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parents[1]))

import published  # noqa: E402

published.load_tool('analysis_tools/check_parity.py')

from parity import clip_vis  # noqa: E402  (the tool knows where it is)

INPUTS = {'seed', 'images', 'paint_threshold', 'link_embeds', 'pool/dense', 'pool/mask_logits'}
INPUTS |= {f'post/{name}' for name in ('clip_probs', 'iou', 'object_logits', 'masks')}
INPUTS |= {f'loss/{name}' for name in ('object_logits', 'iou', 'mask_const', 'target_mask0', 'target_mask1')}
INPUTS |= {'loss/match_target0', 'loss/match_target1'}  # the order of the targets


@pytest.fixture(scope='module')
def fixture() -> dict[str, np.ndarray]:
    with np.load(published.DATA / 'clip_vis.npz') as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope='module')
def model(fixture) -> torch.nn.Module:
    """The model with drawn weights, converted from a published checkpoint."""
    return clip_vis.build_model(published.shapes('clip_vis'), fixture)


def failed(lines: list) -> set[str]:
    """Names of the outputs that differ."""
    return {line.name for line in lines if not line.passed}


def test_gives_what_the_published_model_gave(model, fixture):
    outputs = {name for name in set(fixture) - INPUTS if not name.startswith('weight/')}
    lines = clip_vis.check_model(model, fixture)
    assert {line.name for line in lines} == outputs and len(lines) == len(outputs)
    assert failed(lines) == set()
    assert all(line.difference < 1e-4 for line in lines if 'logits' not in line.name), 'far below the bounds'

    altered = dict(fixture)
    for name in outputs:
        value = altered[name] = fixture[name].copy()
        if value.dtype.kind == 'f':
            value += np.float32(2e-2)
        else:
            some = slice(0, max(1, value.size // 100))
            value.flat[some] = value.flat[some].astype(int) ^ 1
    assert failed(clip_vis.check_model(model, altered)) == outputs


def test_other_linking_and_naming_give_something_else(model, fixture, monkeypatch):
    monkeypatch.setattr(model.tracker, 'top_k', 9)
    monkeypatch.setattr(model.classifier, 'logit_scale', 50.0)
    monkeypatch.setattr(model.decode_head.criterion, 'iou_weight', 1.0)
    found = failed(clip_vis.check_model(model, fixture))
    assert found >= {'clip_logits', 'pool/logits', 'pair_scores_all', 'loss/loss_iou'}
