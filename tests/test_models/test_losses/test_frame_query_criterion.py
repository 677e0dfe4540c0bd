# SPDX-License-Identifier: Apache-2.0
import itertools

import pytest
import torch
from torch.nn import functional as F

from ovavss_mm.models.losses.frame_query_criterion import FrameQueryCriterion, frame_targets

CONFIG = dict(
    match_costs=[
        dict(type='mmdet.ClassificationCost', weight=2.0),
        dict(type='mmdet.DiceCost', weight=7.0, pred_act=True, eps=1.0),
    ],
    loss_focal=dict(type='MaskFocalLoss', loss_weight=1.0),
    loss_dice=dict(type='mmdet.DiceLoss', naive_dice=True, eps=1.0, loss_weight=1.0),
    bce_weight=1.0,
)


def predictions(classes: int = 1, frames: int = 2, queries: int = 5) -> tuple:
    torch.manual_seed(0)
    logits = torch.randn(2, frames, queries, classes + 1, requires_grad=True)
    return logits, torch.randn(2, frames, queries, 4, 6, requires_grad=True)


def labels(frames: int = 2) -> torch.Tensor:
    out = torch.zeros(frames, 8, 12, dtype=torch.long)
    out[:, :4, :5] = 1
    out[:1, 5:, 6:] = 3
    return out


def dice(masks: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    masks = masks.sigmoid()
    return (2 * (masks * target).sum() + 1) / (masks.sum() + target.sum() + 1)


def test_losses_of_one_target_by_hand():
    """With one class all that sounds is one target, and the match is the query of the least cost."""
    logits, masks = predictions()
    criterion, target = FrameQueryCriterion(**CONFIG), labels()
    losses = criterion(logits, masks, target)
    for layer in range(2):
        wanted = dict(loss_cls=0, loss_dice=0, loss_bce=0)
        for frame in range(2):
            large = F.interpolate(masks[layer, frame][None], (8, 12), mode='bilinear', align_corners=False)[0]
            mask = (target[frame] > 0).float()
            scores = logits[layer, frame].softmax(-1)[:, 0]
            best = min(range(5), key=lambda q: (-2 * scores[q] - 7 * dice(large[q], mask)).item())
            logs = logits[layer, frame].log_softmax(-1)
            wanted['loss_cls'] -= (logs[best, 0] + 0.1 * sum(logs[q, 1] for q in range(5) if q != best)) / 2
            wanted['loss_dice'] += (1 - dice(large[best], mask)) / 2
            wanted['loss_bce'] += F.binary_cross_entropy_with_logits(large[best].sigmoid(), mask) / 2
        for name, value in wanted.items():
            assert torch.allclose(losses[name][layer], value, atol=1e-5), name
    criterion.double_sigmoid = False
    assert not torch.allclose(criterion(logits, masks, target)['loss_bce'], losses['loss_bce'])


def test_every_name_of_a_frame_is_a_target_and_the_match_is_the_cheapest():
    logits, masks = predictions(classes=3)
    criterion = FrameQueryCriterion(**CONFIG)
    targets = [frame_targets(frame, 3) for frame in labels()]
    assert [t[0].tolist() for t in targets] == [[0, 2], [0]]
    (query, target), _ = criterion.match(logits[0], masks[0], targets)
    large = F.interpolate(masks[0, 0][None], (8, 12), mode='bilinear', align_corners=False)[0]
    classes, wanted = targets[0]

    def cost(chosen: tuple) -> float:
        scores = logits[0, 0].softmax(-1)
        return sum((-2 * scores[q, classes[k]] - 7 * dice(large[q], wanted[k])).item() for k, q in enumerate(chosen))

    best = min(itertools.permutations(range(5), 2), key=cost)
    assert dict(zip(target.tolist(), query.tolist(), strict=True)) == dict(enumerate(best))


def test_frames_without_object_teach_the_classes_only():
    logits, masks = predictions()
    losses = FrameQueryCriterion(**CONFIG)(logits, masks, torch.full((2, 8, 12), 255))
    sum(value.sum() for value in losses.values()).backward()
    assert (losses['loss_dice'] == 0).all() and (losses['loss_cls'] > 0).all()
    assert logits.grad.abs().sum() > 0 and (masks.grad == 0).all()


def test_no_frame_gives_0():
    losses = FrameQueryCriterion(**CONFIG)(*predictions(frames=0), labels(0))
    assert all((value == 0).all() for value in losses.values())


def test_a_name_that_the_head_does_not_have_is_named():
    with pytest.raises(ValueError, match=r'name 2 of the vocabulary \(from 0\), the head tells 2 names apart'):
        FrameQueryCriterion(**CONFIG)(*predictions(classes=2), labels())
    with pytest.raises(ValueError, match='must not be negative, got 1.0, -1 and 1.0'):
        FrameQueryCriterion(**CONFIG, no_object_weight=-1)
