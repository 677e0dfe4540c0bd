# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch.nn import functional as F

from ovavss_mm.models import JointScoreCost
from ovavss_mm.models.losses.frame_criterion import FrameCriterion, iou_losses
from ovavss_mm.models.losses.video_criterion import VideoTargets

LAYERS, FRAMES, QUERIES, NAMES = 2, 3, 5, 4


@pytest.fixture(scope='module')
def criterion():
    with DefaultScope.overwrite_default_scope('mmseg'):
        return FrameCriterion(
            match_costs=[
                dict(type='JointScoreCost'),
                dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
                dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
            ],
            loss_sound=dict(type='SoundScoreLoss', no_object_weight=0.4),
            loss_mask=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0),
            loss_dice=dict(type='mmdet.DiceLoss', naive_dice=True, eps=1.0, loss_weight=5.0),
            num_points=256,
        )


def make_clip(counts=(2, 0, 1)) -> dict:
    torch.manual_seed(0)
    targets = [
        VideoTargets(torch.rand(k, 1, 16, 24) > 0.5, torch.zeros(1, dtype=torch.long), None, torch.arange(k) + 1)
        for k in counts
    ]
    return dict(
        sound_logits=torch.randn(LAYERS, FRAMES, QUERIES, 2),
        mask_embed=torch.randn(LAYERS, FRAMES, QUERIES, 6),
        pixel_embed=torch.randn(FRAMES, 6, 8, 12),
        targets=targets,
        name_logits=torch.randn(LAYERS, FRAMES, QUERIES, NAMES),
        ious=torch.rand(LAYERS, FRAMES, QUERIES),
    )


def test_losses_do_not_depend_on_the_order_of_frames(criterion):
    clip, order = make_clip(), [2, 0, 1]
    clip['mask_embed'].zero_()  # the random points decide nothing
    moved = {key: value[:, order] for key, value in clip.items() if key not in ('pixel_embed', 'targets')}
    moved |= dict(pixel_embed=clip['pixel_embed'][order], targets=[clip['targets'][i] for i in order])
    one, two = criterion(**clip), criterion(**moved)
    assert one.keys() == two.keys() == {'loss_object', 'loss_mask', 'loss_dice', 'loss_name', 'loss_iou'}
    for key, tolerance in dict(loss_object=1e-5, loss_name=1e-5, loss_mask=1e-5, loss_dice=0.3, loss_iou=1e-5).items():
        assert one[key].shape == (LAYERS,)
        assert torch.allclose(one[key], two[key], atol=tolerance), key


def test_names_of_matched_queries_only(criterion):
    clip = make_clip((1, 0, 0))
    match = criterion.match(
        clip['sound_logits'][:, 0],
        clip['mask_embed'][:, 0],
        clip['pixel_embed'][:1],
        clip['targets'][0],
        clip['name_logits'][:, 0],
    )
    query = match[-1][0]
    logits = clip['name_logits'][-1, 0, query]
    wanted = F.binary_cross_entropy_with_logits(logits, torch.tensor([[0.0, 1, 0, 0]]), reduction='sum')
    got = criterion(**clip)['loss_name'][-1]
    assert torch.allclose(got, 3.4 * wanted / (FRAMES * QUERIES), atol=1e-5)


def test_a_clip_without_targets_has_losses_of_objects_alone(criterion):
    clip = make_clip((0, 0, 0))
    clip['ious'].requires_grad_()
    losses = criterion(**clip)
    assert all(losses[key].abs().max() == 0 for key in ('loss_mask', 'loss_dice', 'loss_name', 'loss_iou'))
    wanted = F.cross_entropy(clip['sound_logits'][0].flatten(0, 1), torch.ones(FRAMES * QUERIES, dtype=torch.long))
    assert torch.allclose(losses['loss_object'][0], 2 * wanted, atol=1e-5)


def test_ious_of_masks_that_meet_their_targets():
    pred = torch.tensor([[[1.0, 1, -1, -1], [1, 1, 1, 1], [-1, -1, -1, 1]]])
    gt = torch.tensor([[[1.0, 0, 0, 1], [1, 1, 1, 1], [1, 1, 0, 0]]])  # IoU of a third, 1, none
    ious = torch.tensor([[0.5, 0.5, 0.9]])
    assert torch.allclose(iou_losses(ious, pred, gt), torch.tensor([(0.5 - 1 / 3 + 0.5) / 2]))
    assert iou_losses(ious[:, 2:], pred[:, 2:], gt[:, 2:]).item() == 0


def test_joint_score_cost():
    pred = InstanceData(scores=torch.randn(5, 2), name_logits=torch.randn(5, 3))
    cost = JointScoreCost(2.0)(pred, InstanceData(names=torch.tensor([2, 0])))
    wanted = -2 * (pred.scores.softmax(-1)[3, 0] * pred.name_logits[3, 2].sigmoid()).sqrt()
    assert cost.shape == (5, 2) and torch.allclose(cost[3, 0], wanted)
