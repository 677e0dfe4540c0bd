# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torchvggish.torchvggish import VGG, make_layers

from ovavss_mm.models import VGGishEncoder


@pytest.fixture(scope='module')
def encoder():
    return VGGishEncoder()


def test_is_the_frozen_network_of_torchvggish(encoder):
    with torch.device('meta'):
        network = VGG(make_layers(), postprocess=False)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not any(module.training for module in encoder.train().modules())

    # its release loads by these names, and nothing is left over
    own = encoder.state_dict()
    release = encoder.convert_state_dict(network.state_dict())
    assert {k: v.shape for k, v in release.items()} == {k: v.shape for k, v in own.items()}
    network.load_state_dict({k.removeprefix('vggish.'): v for k, v in own.items()}, assign=True)
    audio = torch.randn(2, 1, 96, 64)
    assert torch.equal(encoder(audio), network(audio))


def test_embeds_patches(encoder):
    audio = torch.randn(3, 1, 96, 64)
    embedded = encoder(audio)
    assert embedded.shape == (3, 128) and not embedded.requires_grad
    assert (embedded >= 0).all() and embedded.any()
    assert torch.allclose(encoder(audio[1:2]), embedded[1:2], atol=1e-5)


def test_the_final_relu_may_be_left_out(encoder):
    other = VGGishEncoder(final_relu=False)
    other.load_state_dict(encoder.state_dict())
    audio = torch.randn(3, 1, 96, 64)
    assert (other(audio) < 0).any()
    assert torch.equal(other(audio).relu(), encoder(audio))


def test_embeddings_pass_unchanged(encoder):
    embeddings = torch.randn(3, 128)
    assert encoder(embeddings) is embeddings


@pytest.mark.parametrize('shape', [(2, 64), (2, 96, 64), (2, 1, 64, 96), (2, 1, 128)])
def test_other_shapes_are_refused(encoder, shape):
    with pytest.raises(ValueError, match=r'log-mel patches or \(M, 128\) embeddings, got \(2, '):
        encoder(torch.zeros(shape))
