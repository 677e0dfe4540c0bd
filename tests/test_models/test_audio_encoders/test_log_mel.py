# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from tiny_model import SILENCE

from ovavss_mm.models import LogMelEncoder


@pytest.fixture
def encoder():
    return LogMelEncoder(channels=4, out_channels=16)


def test_each_patch_is_embedded_by_itself(encoder):
    audio = torch.randn(3, 1, 96, 64)
    embedded = encoder(audio)
    assert embedded.shape == (3, 16)
    for row, patch in zip(embedded, audio, strict=True):
        assert torch.allclose(encoder(patch[None])[0], row, atol=1e-5)


def test_pitch_tells_patches_apart(encoder):
    low = torch.full((1, 1, 96, 64), SILENCE)
    low[..., 4:12] = 2.0
    assert (encoder(low) - encoder(low.roll(32, -1))).abs().max() > 0.01


def test_silence_has_finite_values_and_gradients(encoder):
    encoder(torch.full((2, 1, 96, 64), SILENCE)).square().sum().backward()
    gradients = [parameter.grad for parameter in encoder.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)


@pytest.mark.parametrize('shape', [(2, 1, 64, 96), (2, 96, 64), (2, 16), (2, 2, 96, 64)])
def test_other_shapes_are_refused(encoder, shape):
    with pytest.raises(ValueError, match=r'\(M, 1, 96, 64\) log-mel patches, got \(2, '):
        encoder(torch.zeros(shape))


@pytest.mark.parametrize('sizes', [dict(channels=0), dict(out_channels=0)])
def test_sizes_are_checked(sizes):
    with pytest.raises(ValueError, match='at least 1, got'):
        LogMelEncoder(**sizes)
