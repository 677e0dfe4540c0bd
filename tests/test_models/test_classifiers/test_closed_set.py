# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.structures import InstanceData
from tiny_model import make_clip, prepare, tiny_model

from ovavss_mm.models import ClosedSetClassifier

NAMES = ('dog', 'cat', 'bird')


def make_queries() -> InstanceData:
    """Four queries on two frames of 32 x 48, whose mask is empty in both frames (1), or in one (2)."""
    masks = torch.full((4, 2, 8, 12), -5.0)
    masks[0, :, :4, :4] = masks[3, :, 4:, 4:] = masks[2, 1, 2:5, 2:5] = 5.0
    scores = torch.tensor([[0.6, 0.1, 0.1], [0.9, 0, 0], [0, 0.2, 0.3], [0, 0, 0.1]])
    return InstanceData(masks=masks, name_scores=scores, scores=scores.sum(1))


def test_takes_the_names_of_queries_that_have_a_mask():
    frames, queries = torch.zeros(2, 3, 32, 48, dtype=torch.uint8), make_queries()
    named = ClosedSetClassifier()(frames, queries, NAMES, (32, 64))
    kept = [0, 2, 3]
    assert torch.equal(named.class_scores, queries.name_scores[kept])
    assert torch.equal(named.masks, queries.masks[kept])


def test_a_mask_in_the_padding_is_none():
    queries = make_queries()
    queries.masks[:] = -5.0
    queries.masks[0, :, :, -2:] = 5.0  # columns 40 to 48, of which the frame has none
    frames = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    assert len(ClosedSetClassifier()(frames, queries, NAMES, (32, 48))) == 0


def test_other_names_are_refused():
    frames, queries = torch.zeros(2, 3, 32, 48, dtype=torch.uint8), make_queries()
    with pytest.raises(ValueError, match='tells 3 names apart, asked for 2'):
        ClosedSetClassifier()(frames, queries, NAMES[:2], (32, 48))
    queries.pop('name_scores')
    with pytest.raises(ValueError, match='tells 1 names apart, asked for 3'):
        ClosedSetClassifier()(frames, queries, NAMES, (32, 48))


def test_a_name_without_training_clips_is_learned_to_be_wrong():
    """Novel IoU is 0 by construction: the loss lowers each query's score of a name that no clip shows."""
    torch.manual_seed(0)
    model = tiny_model(
        classifier=dict(_delete_=True, type='ClosedSetClassifier'),
        decode_head=dict(num_classes=3, criterion=dict(loss_sound=dict(num_classes=3))),
    )
    losses = model.loss(**prepare(model, [make_clip()], training=True))  # names 1 and 3
    sum(losses.values()).backward()
    gradient = model.decode_head.sound_head.bias.grad
    assert gradient[1] > 0, 'a step makes name 2 less likely'
    clip = make_clip()
    with torch.no_grad():
        sample = model.predict(**prepare(model, [clip]))[0]
    assert sample.pred_sem_seg.data.shape == (5, 64, 96)
