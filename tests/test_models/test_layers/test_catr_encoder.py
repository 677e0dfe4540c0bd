# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from ovavss_mm.models.layers.catr_encoder import (
    FrameEncoderLayer,
    LayerGate,
    MaskFeatures,
    TemporalLayer,
    encode_frames,
)

C, L, S = 8, 6, 5


def tokens() -> tuple:
    """Visual tokens (W, T', L, C), audio tokens (W, S, C) and positions (1, L, C)."""
    torch.manual_seed(0)
    return torch.randn(2, 5, L, C), torch.randn(2, S, C), torch.randn(1, L, C)


def test_frame_layer_is_detr_with_positions_on_queries_and_keys():
    torch.manual_seed(0)
    layer = FrameEncoderLayer(C, 2, 16).eval()
    x, pos = torch.randn(3, L, C), torch.randn(1, L, C)
    attended = layer.attn(x + pos, x + pos, x)[0]
    out = layer.norms[0](x + attended)
    linear, last = layer.ffn.layers[0][0], layer.ffn.layers[1]
    wanted = layer.norms[1](out + last(linear(out).relu()))
    assert torch.allclose(layer(x, pos), wanted, atol=1e-5)


def test_attention_stays_inside_a_frame():
    visual, audio, pos = tokens()
    layers = [FrameEncoderLayer(C, 2, 16).eval()]
    other = visual.clone()
    other[:, 3] += 1
    one, two = (encode_frames(layers, x, audio, pos) for x in (visual, other))
    same = [torch.equal(one[:, t], two[:, t]) for t in range(5)]
    assert same == [True] * 3 + [False, True]


@pytest.mark.parametrize('squared', [True, False])
def test_temporal_layer_multiplies_tokens_by_what_they_attend_to(squared):
    torch.manual_seed(0)
    layer = TemporalLayer(C, 2, squared_product=squared, feedforward_channels=16).eval()
    visual, audio, pos = tokens()
    encoded = encode_frames([layer.encoder], visual, audio, pos)
    seen, heard = encoded[:, :, :L].flatten(1, 2), encoded[:, 0, L:]
    power = 2 if squared else 1
    new_seen = seen * layer.visual_attn(seen, heard, heard)[0] ** power
    keys = (new_seen.unflatten(1, (5, L)) + pos[:, None]).flatten(1, 2)
    new_heard = heard * layer.audio_attn(heard, keys, new_seen)[0] ** power
    out = layer(visual, audio, pos)
    assert torch.allclose(out[0].flatten(1, 2), new_seen, atol=1e-5) and torch.allclose(out[1], new_heard, atol=1e-5)
    assert torch.equal(layer(visual, audio, pos, with_audio=False)[0], out[0])


def test_audio_goes_on_from_the_first_frame_or_from_all():
    torch.manual_seed(0)
    layer = TemporalLayer(C, 2, feedforward_channels=16).eval()
    visual, audio, pos = tokens()
    encoded = encode_frames([layer.encoder], visual, audio, pos)[:, :, L:]
    kept = []
    layer.visual_attn.register_forward_pre_hook(lambda module, args: kept.append(args[1]))
    for first in (True, False):
        layer.first_frame_audio = first
        layer(visual, audio, pos)
    assert torch.equal(kept[0], encoded[:, 0]) and torch.allclose(kept[1], encoded.mean(1))


def test_third_map_has_the_gate_of_the_first_two_or_one_of_its_own():
    torch.manual_seed(0)
    gate = LayerGate(C).eval()
    one, two, three = torch.randn(3, 2, C, 4, 5)
    first = gate.gate(one, two)
    assert first.shape == (2, 2) and 0 < first.min() and first.max() < 1
    gated = gate.second(first[:, :1, None, None] * two)
    shared = (first[:, 0].sigmoid() + first[:, 1].sigmoid()) / 2
    assert torch.allclose(gate([one, two, three]), gate.third(gated + shared.view(2, 1, 1, 1) * three), atol=1e-6)
    gate.shared_gate = False
    own = gate.gate(two, three).mean(1).view(2, 1, 1, 1)
    assert torch.allclose(gate([one, two, three]), gate.third(gated + own * three), atol=1e-6)


def test_mask_features_have_the_size_of_the_last_map():
    torch.manual_seed(0)
    features = MaskFeatures(64, 6)
    features.init_weights()
    memory, coarse, fine = (torch.randn(2, 64, *size) for size in ((8, 12), (2, 3), (4, 6)))
    assert features(memory, [coarse, fine]).shape == (2, 6, 4, 6)
    assert features(memory, [fine, coarse]).shape == (2, 6, 2, 3)
    assert all((m.bias == 0).all() for m in features.modules() if isinstance(m, nn.Conv2d))
    with pytest.raises(ValueError, match='multiple of 64, got 96'):
        MaskFeatures(96)


def test_encoding_frames_again_changes_no_gradient():
    torch.manual_seed(0)
    x, pos, layer = torch.randn(3, L, C), torch.randn(1, L, C), FrameEncoderLayer(C, 2, 16, dropout=0.0)
    out, grads = [], []
    for layer.with_cp in (False, True):
        layer.zero_grad()
        out.append(layer(x, pos))
        out[-1].square().sum().backward()
        grads.append([p.grad.clone() for p in layer.parameters()])
    assert torch.allclose(*out, atol=1e-6)
    assert all(torch.allclose(one, two, atol=1e-5) for one, two in zip(*grads, strict=True))
