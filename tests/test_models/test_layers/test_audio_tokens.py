# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from ovavss_mm.models import LogMelEncoder, VGGishEncoder
from ovavss_mm.models.layers import ClusterTokens, TimeTokens

TOKENS = {'time': (dict(type='TimeTokens'), 6), 'clusters': (dict(type='ClusterTokens', num_clusters=3), 3)}


@pytest.mark.parametrize('kind', TOKENS)
def test_an_encoder_gives_several_tokens_a_frame(kind):
    tokens, count = TOKENS[kind]
    encoder = LogMelEncoder(channels=4, out_channels=16, tokens=tokens)
    audio = torch.randn(3, 1, 96, 64)
    found = encoder(audio)
    assert found.shape == (3, count, 16)
    assert torch.allclose(encoder(audio[1:2])[0], found[1], atol=1e-5), 'each frame by itself'
    found.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_tokens_in_time_hear_their_own_part():
    audio_map = torch.randn(1, 5, 6, 4)
    step = TimeTokens(5, 4, 7)
    changed = audio_map.clone()
    changed[:, :, 2] += 1
    assert ((step(audio_map) - step(changed)).abs().amax((0, 2)) > 0).tolist() == [
        False,
        False,
        True,
        False,
        False,
        False,
    ]


def test_clusters_part_what_sounds_between_them():
    """A cluster is the mean of its positions: of one that takes all, the mean of all."""
    step = ClusterTokens(5, 4, 7, num_clusters=2)
    audio_map = torch.randn(2, 5, 6, 4)
    with torch.no_grad():
        step.assign.weight.zero_()
        step.assign.bias.copy_(torch.tensor([30.0, 0.0]))
    x = (step.value(audio_map.permute(0, 2, 3, 1)) + step.band_embed).flatten(1, 2)
    assert torch.allclose(step(audio_map)[:, 0], x.mean(1), atol=1e-3)
    assert step(audio_map)[:, 1].abs().max() < 1e-6, 'a cluster without positions is 0'


def test_vggish_gives_tokens_of_its_frozen_map():
    encoder = VGGishEncoder(tokens=dict(type='ClusterTokens')).train()
    found = encoder(torch.randn(2, 1, 96, 64))
    assert found.shape == (2, 4, 128)
    found.sum().backward()
    trained = {name for name, p in encoder.named_parameters() if p.grad is not None}
    assert trained == {f'tokens.{name}' for name, _ in encoder.tokens.named_parameters()}
    with pytest.raises(ValueError, match='not of extracted embeddings: use LoadClipAudio'):
        encoder(torch.zeros(2, 128))


def test_arguments_are_checked():
    with pytest.raises(ValueError, match='num_clusters must be at least 1, got 0'):
        ClusterTokens(5, 4, num_clusters=0)
