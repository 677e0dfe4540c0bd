# SPDX-License-Identifier: Apache-2.0
"""Masks drawn anew by a stub that knows the answers, and by a drawn SAM."""

import pytest
import torch
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from torch import nn

from ovavss_mm.models import SAMMaskRefiner
from ovavss_mm.models.layers.resize import resize_masks

PAD, SIZE = (64, 96), (60, 80)  # of the padded input, of the frames in it


@MODELS.register_module(force=True)
class StubMasker(nn.Module):
    """Draws the box it is given as a sharp mask, moved by what the frame's first pixel says; notes its calls."""

    def __init__(self):
        super().__init__()
        self.embedded, self.calls = 0, []

    def embed(self, frames):
        self.embedded += len(frames)
        return frames[:, 0, 0, :1].float()

    def forward(self, embedding, boxes, frame_shape, masks=None, out_shape=None):
        self.calls.append((boxes, masks))
        new = torch.full((len(boxes), *frame_shape), -5.0)
        for mask, box in zip(new, boxes.round().long().tolist(), strict=True):
            left, top, right, bottom = box
            mask[top:bottom, left + int(embedding) : right + int(embedding)] = 5
        return new, torch.ones(len(boxes))


def refiner(**kwargs) -> SAMMaskRefiner:
    return SAMMaskRefiner(masker=dict(type='StubMasker'), **kwargs)


def a_clip(num_queries=3, num_frames=2) -> tuple[torch.Tensor, InstanceData]:
    """Black frames, and round blobs of logits in them."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing='ij')
    blobs = [4 - ((y - 6 - q % 3) ** 2 + (x - 8 - q % 5) ** 2) / 3 for q in range(num_queries)]
    masks = torch.stack(blobs)[:, None].repeat(1, num_frames, 1, 1)
    queries = InstanceData(scores=torch.linspace(0.9, 0.6, num_queries), masks=masks)
    return torch.zeros(num_frames, 3, *SIZE, dtype=torch.uint8), queries


def test_masks_become_those_of_the_box_at_half_the_input():
    frames, queries = a_clip()
    before = queries.masks.clone()
    model = refiner()
    out = model(frames, queries, PAD)
    assert out.masks.shape == (3, 2, 32, 48) and torch.equal(queries.masks, before)
    for boxes, prompts in model.masker.calls:
        old = resize_masks(before[:, :1], PAD, SIZE)[:, 0]
        torch.testing.assert_close(prompts, old.clamp(-32, 32))
        for box, inside in zip(boxes.long().tolist(), old > 0, strict=True):
            ys, xs = inside.nonzero(as_tuple=True)
            assert box == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    full = resize_masks(out.masks, PAD, SIZE) > 0
    for (left, top, right, bottom), mask in zip(model.masker.calls[0][0].long().tolist(), full[:, 0], strict=True):
        drawn = torch.zeros(SIZE, dtype=torch.bool)
        drawn[top:bottom, left:right] = True
        assert (drawn ^ mask).sum() <= (drawn.sum() * 0.1), 'but for a pixel of the edge'


def test_a_frame_is_embedded_once_and_only_where_there_is_a_mask():
    frames, queries = a_clip(num_queries=20, num_frames=4)
    queries.masks[:, 1] = -1
    queries.masks[5:, 2] = -1
    model = refiner()
    out = model(frames, queries, PAD)
    assert model.masker.embedded == 3
    assert sum(len(boxes) for boxes, _ in model.masker.calls) == 20 + 5 + 20
    torch.testing.assert_close(out.masks[:, 1], resize_masks(queries.masks, (32, 48))[:, 1])


def test_a_mask_that_would_become_another_one_stays():
    frames, queries = a_clip()
    frames[1] = 18  # the stub's mask is beside it
    out, old = refiner()(frames, queries, PAD), resize_masks(queries.masks, (32, 48))
    torch.testing.assert_close(out.masks[:, 1], old[:, 1])
    assert not torch.allclose(out.masks[:, 0], old[:, 0])
    moved = refiner(min_iou=0)(frames, queries, PAD)
    assert not torch.allclose(moved.masks[:, 1], old[:, 1])


def test_silent_queries_are_left_out_and_what_else_there_is_stays():
    frames, queries = a_clip()
    queries.ious = torch.arange(6.0).reshape(3, 2)
    queries.set_metainfo(dict(naming_audio=torch.ones(2)))
    out = refiner(sound_thr=0.7)(frames, queries, PAD)
    assert torch.equal(out.ious, queries.ious[:2]) and out.naming_audio.sum() == 2
    model = refiner(sound_thr=1.0)
    assert model(frames, queries, PAD).masks.shape == (0, 2, 32, 48) and model.masker.embedded == 0


def test_queries_do_not_depend_on_each_other():
    frames, queries = a_clip(num_queries=11)
    together = refiner()(frames, queries, PAD).masks
    for q in (0, 9):
        torch.testing.assert_close(refiner()(frames, queries[[q]], PAD).masks[0], together[q])


def test_margin_and_clipping_change_what_the_masker_sees():
    frames, queries = a_clip(num_queries=1, num_frames=1)
    models = [refiner(), refiner(margin=0.5, max_logit=2)]
    for model in models:
        model(frames, queries, PAD)
    (box, _), (grown, prompts) = (model.masker.calls[0] for model in models)
    (box,), (grown,) = box, grown
    width, height = box[2] - box[0], box[3] - box[1]
    expected = box + torch.stack([-width, -height, width, height]) / 2
    low, high = torch.zeros(4), torch.tensor([80.0, 60, 80, 60])
    torch.testing.assert_close(grown, torch.maximum(torch.minimum(expected, high), low))
    assert prompts.abs().max() == 2


def test_a_mask_in_the_padding_alone_is_not_refined():
    frames, queries = a_clip(num_queries=1, num_frames=1)
    queries.masks = torch.full_like(queries.masks, -3)
    queries.masks[..., 22:] = 3
    model = refiner()
    assert model(frames, queries, PAD).masks.shape == (1, 1, 32, 48) and not model.masker.calls


@pytest.mark.parametrize('wrong', [dict(sound_thr=2), dict(min_iou=-1), dict(margin=-0.5), dict(max_logit=0)], ids=str)
def test_wrong_values_are_named(wrong):
    with pytest.raises(ValueError, match=str(*wrong.values())):
        refiner(**wrong)
