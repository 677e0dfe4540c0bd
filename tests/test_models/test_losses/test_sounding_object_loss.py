# SPDX-License-Identifier: Apache-2.0
"""Losses of GAVS."""

import torch
from torch.nn import functional as F

from ovavss_mm.models.losses.sounding_object_loss import audio_visual_triplet, frame_bce


def test_frames_count_by_themselves_over_their_annotated_pixels():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 4, 5, requires_grad=True), torch.randint(0, 3, (3, 4, 5)).to(torch.uint8)
    labels[1, :2] = 255
    labels[2] = 255
    losses = frame_bce(logits, labels)
    expected = [
        F.binary_cross_entropy_with_logits(x[y != 255], (y[y != 255] > 0).float())
        for x, y in zip(logits[:2], labels[:2], strict=True)
    ]
    torch.testing.assert_close(losses, torch.stack([*expected, torch.zeros(())]))
    losses.sum().backward()
    assert not logits.grad[labels == 255].any() and logits.grad.isfinite().all()


def by_hand(audio: torch.Tensor, near: torch.Tensor, far: torch.Tensor, margin: float) -> torch.Tensor:
    cosine = torch.nn.CosineSimilarity(dim=0)
    return (margin - cosine(audio, near) + cosine(audio, far)).clamp(min=0)


def test_sound_is_nearer_to_its_object_than_to_the_rest():
    torch.manual_seed(0)
    audio, maps = torch.randn(3, 8, requires_grad=True), torch.randn(3, 8, 2, 2, requires_grad=True)
    inside, outside = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    inside[0, 0] = torch.tensor([1.0, 0.5])
    outside[0, 0] = torch.tensor([0.0, 0.5])
    inside[1] = 1.0  # nothing but object; in the third frame nothing sounds
    outside[1] = 0.0
    loss = audio_visual_triplet(audio, maps, inside, outside, 2.5)
    near = (maps[0, :, 0, 0] + 0.5 * maps[0, :, 0, 1]) / 1.5
    far = (0.5 * maps[0, :, 0, 1] + maps[0, :, 1].sum(1)) / 2.5
    torch.testing.assert_close(loss, by_hand(audio[0], near, far, 2.5))
    loss.backward()
    assert audio.grad[0].any() and not audio.grad[1:].any()


def test_without_object_it_is_nothing_with_a_gradient():
    maps = torch.randn(2, 8, 2, 2, requires_grad=True)
    loss = audio_visual_triplet(torch.randn(2, 8), maps, torch.zeros(2, 2, 2), torch.ones(2, 2, 2), 0.5)
    loss.backward()
    assert loss == 0 and not maps.grad.any()
