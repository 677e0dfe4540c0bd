# SPDX-License-Identifier: Apache-2.0
"""How often a step would wait for a GPU: bounds that do not grow with layers, queries, names or pixels."""

from collections.abc import Callable
from unittest.mock import patch

import pytest
import tiny_model
import torch
from host_syncs import HostSyncs
from mmengine.optim import build_optim_wrapper

from ovavss_mm.models.layers import deform_attention

FINITE = dict(type='FiniteOptimWrapper', optimizer=dict(type='AdamW', lr=1e-4), clip_grad=dict(max_norm=0.01))


def waits(step: Callable[[], object]) -> HostSyncs:
    """Those of a step, whose deformable attention goes a GPU's way."""
    with patch.object(deform_attention, 'uses_planes', lambda x: True), HostSyncs() as syncs:
        step()
    return syncs


@pytest.mark.parametrize(
    ('step', 'count'),
    [
        (lambda x: x.sum().item(), 1),
        (lambda x: bool((x > 0).all()), 1),
        (lambda x: x.tolist(), 1),
        (lambda x: x.cpu(), 1),
        (lambda x: x[x > 0], 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: torch.tensor([1.0], device=x.device), 1),
        (lambda x: x.to('cpu'), 1),
        (lambda x: x.to('cpu', non_blocking=True), 0),
        (lambda x: x.masked_fill(x > 0, 1.0)[:2] + torch.where(x > 0, x, 0)[:2], 0),
    ],
)
def test_what_is_counted(step, count):
    assert waits(lambda: step(torch.randn(4))).lines.total() == count


@pytest.mark.parametrize('clips', [1, 2])
def test_a_training_step_waits_for_its_targets_and_matches_once_a_clip(clips):
    """And once for the norm of the gradients."""
    torch.manual_seed(0)
    model = tiny_model.tiny_model().train()
    wrapper = build_optim_wrapper(model, FINITE)
    batch = tiny_model.collate([tiny_model.make_clip() for _ in range(clips)])
    lines = waits(lambda: model.train_step(batch, wrapper)).lines
    per_clip = {line: count for line, count in lines.items() if 'video_criterion.py' in line}
    assert sum(per_clip.values()) <= 4 * clips, lines
    assert sum(count for line, count in per_clip.items() if ' cpu: ' in line) == clips, lines
    assert lines.total() - sum(per_clip.values()) <= 1, lines


@torch.no_grad()
def test_testing_waits_a_few_times_a_window():
    """Whatever the number of pairs: names are embedded before, here ten pairs are painted."""
    torch.manual_seed(0)
    model = tiny_model.tiny_model(test_cfg=dict(score_thr=-1.0), classifier=dict(sound_thr=0.0))
    tiny_model.give_masks_edges(model.decode_head)
    batch = tiny_model.collate([tiny_model.make_clip()])
    (found,) = model.test_step(batch)  # embeds the names
    lines = waits(lambda: model.test_step(batch)).lines
    assert len(found.pred_queries) == 10
    assert lines.total() <= 10, lines
