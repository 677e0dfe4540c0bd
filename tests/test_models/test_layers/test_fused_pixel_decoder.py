# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmdet.models.layers import MSDeformAttnPixelDecoder
from tiny_model import draw_weights, tiny_config

from ovavss_mm.models import FusedPixelDecoder

CHANNELS = [8, 16, 24, 40]  # of f4 and of what the host projects
SIZES = [(13, 18), (7, 9), (4, 5), (2, 3)]


@pytest.fixture
def config():
    config = tiny_config().decode_head.pixel_decoder
    config.pop('type')
    return config | dict(feat_channels=32, out_channels=20)


def make_decoder(config, **kwargs) -> FusedPixelDecoder:
    return draw_weights(FusedPixelDecoder(in_channels=[8, 32, 32, 32], **config, **kwargs))


@pytest.mark.parametrize(('plain', 'tolerance'), [(True, 0), (False, 1e-4)])
def test_is_the_host_behind_its_projections(config, plain, tolerance):
    host = draw_weights(MSDeformAttnPixelDecoder(in_channels=CHANNELS, **config)).eval()
    decoder = make_decoder(config, plain_sampling=plain).eval()
    shared = {k: v for k, v in host.state_dict().items() if not k.startswith('input_convs.')}
    decoder.load_state_dict(shared, strict=True)

    feats = [torch.randn(2, c, *size) for c, size in zip(CHANNELS, SIZES, strict=True)]
    # the host's projections go from low to high resolution
    projected = [conv(x) for conv, x in zip(host.input_convs, feats[:0:-1], strict=True)]
    pixels, maps = decoder([feats[0], *projected[::-1]])
    expected_pixels, expected_maps = host(feats)
    assert torch.allclose(pixels, expected_pixels, rtol=0, atol=tolerance)
    assert len(maps) == len(expected_maps) == 3
    for ours, expected in zip(maps, expected_maps, strict=True):
        assert torch.allclose(ours, expected, rtol=0, atol=tolerance)
    assert pixels.shape == (2, 20, *SIZES[0])
    assert [x.shape for x in maps] == [(2, 32, *size) for size in SIZES[:0:-1]], 'f32 comes first'


def test_frames_do_not_mix(config):
    decoder = make_decoder(config).eval()
    channels = [8, 32, 32, 32]
    feats = [torch.randn(3, c, *size) for c, size in zip(channels, SIZES, strict=True)]
    pixels, maps = decoder(feats)
    alone_pixels, alone_maps = decoder([x[1:2] for x in feats])
    assert torch.allclose(alone_pixels, pixels[1:2], atol=1e-5)
    assert all(torch.allclose(x, y[1:2], atol=1e-5) for x, y in zip(alone_maps, maps, strict=True))


def test_init_weights_draws_every_matrix(config):
    decoder = make_decoder(config)
    before = {name: p.clone() for name, p in decoder.named_parameters()}
    decoder.init_weights()
    after = dict(decoder.named_parameters())
    kept = [n for n, p in after.items() if p.dim() > 1 and torch.equal(p, before[n])]
    assert not kept
    assert not decoder.mask_feature.bias.any()
    attention = decoder.encoder.layers[0].self_attn
    # deformable attention starts from a fixed star of points, equally weighed
    assert not attention.sampling_offsets.weight.any() and attention.sampling_offsets.bias.any()
    assert not attention.attention_weights.weight.any()
    assert 0.5 < decoder.level_encoding.weight.std() < 1.5
