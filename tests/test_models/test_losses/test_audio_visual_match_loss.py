# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from ovavss_mm.models import AudioVisualMatchLoss


def frames(classes: int) -> tuple:
    torch.manual_seed(0)
    logits = torch.randn(3, classes, 8, 8, requires_grad=True)
    maps = [torch.rand(3, 5, side, side, requires_grad=True) for side in (4, 2)]
    return logits, maps, [torch.randn(3, 5, requires_grad=True) for _ in maps]


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    p, q = p.softmax(-1), q.softmax(-1)
    return (p * (p / q).log()).sum()


def test_is_the_divergence_of_audio_from_what_is_seen_in_the_foreground():
    logits, maps, audio = frames(4)
    loss = AudioVisualMatchLoss(loss_weight=1.0)(logits, maps, audio)
    mask = (logits.argmax(1, keepdim=True) > 0).float()
    wanted = 0
    for level, sound in zip(maps, audio, strict=True):
        size = 8 // level.shape[-1]
        pooled = mask.unflatten(2, (-1, size)).unflatten(4, (-1, size)).mean((3, 5))
        wanted = wanted + kl(sound, (level * pooled).mean((2, 3))) / 3
    assert torch.allclose(loss, wanted / 2)
    loss.backward()
    assert logits.grad is None, 'nothing flows through a mask that is yes or no'
    assert all(x.grad.abs().sum() > 0 for x in [*maps, *audio])


def test_mask_of_one_class_is_soft_and_frames_may_be_summed():
    logits, maps, audio = frames(1)
    loss = AudioVisualMatchLoss(loss_weight=0.5, reduction='sum')(logits, maps, audio)
    loss.backward()
    assert logits.grad.abs().sum() > 0
    mean = AudioVisualMatchLoss(loss_weight=0.5)(logits, maps, audio)
    assert torch.allclose(loss, 3 * mean)


def test_no_frames_give_0():
    logits, maps, audio = frames(4)
    loss = AudioVisualMatchLoss()(logits[:0], [x[:0] for x in maps], [x[:0] for x in audio])
    loss.backward()
    assert loss == 0


def test_wrong_values_are_named():
    with pytest.raises(ValueError, match="got 'median' and 1"):
        AudioVisualMatchLoss(1, reduction='median')
