# SPDX-License-Identifier: Apache-2.0
from math import exp

import pytest
import torch
from tiny_model import draw_weights
from torch import Tensor

from ovavss_mm.models.layers import BiAttention, bi_attention


def make(**kwargs) -> BiAttention:
    sizes = dict(visual_channels=6, audio_channels=5, embed_dims=8, num_heads=2)
    return draw_weights(BiAttention(**(sizes | kwargs)), 0.5)


def reference(module: BiAttention, visual: Tensor, audio: Tensor, keep_v: Tensor, keep_a: Tensor):
    """Equations 1 and 2 by loops; ``keep_v`` (M, h, L, S), ``keep_a`` (M, h, S, L): dropout."""
    visual, audio = module.norm_v(visual), module.norm_a(audio)
    size = module.query_v.out_features // module.num_heads
    new_v, new_a = [], []
    for m in range(len(visual)):
        heads_v, heads_a = [], []
        for h in range(module.num_heads):
            part = slice(h * size, (h + 1) * size)
            query = module.query_v(visual[m])[:, part]
            key = module.key_a(audio[m])[:, part]
            logits = query @ key.T / size**0.5  # (L, S)
            over_audio = logits.exp() / logits.exp().sum(1, keepdim=True)
            over_positions = logits.exp() / logits.exp().sum(0, keepdim=True)
            heads_v.append((over_audio * keep_v[m, h]) @ module.value_a(audio[m])[:, part])
            heads_a.append((over_positions.T * keep_a[m, h]) @ module.value_v(visual[m])[:, part])
        new_v.append(visual[m] + module.gamma_v * module.out_v(torch.cat(heads_v, 1)))
        new_a.append(audio[m] + module.gamma_a * module.out_a(torch.cat(heads_a, 1)))
    return torch.stack(new_v), torch.stack(new_a)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('tokens', [1, 3])
def test_equals_plain_loops_in_value_and_gradient(monkeypatch, tokens, training):
    """One audio token, the short cut, and several; with the same weights dropped in training."""
    frames, positions, rate = 2, 7, 0.3
    module = make(dropout=rate).double().train(training)
    visual = torch.randn(frames, positions, 6, dtype=torch.double, requires_grad=True)
    audio = torch.randn(frames, tokens, 5, dtype=torch.double, requires_grad=True)
    keep_v = torch.ones(frames, 2, positions, tokens, dtype=torch.double)
    keep_a = torch.ones(frames, 2, tokens, positions, dtype=torch.double)
    if training:
        keep_v, keep_a = ((torch.rand_like(k) > rate) / (1 - rate) for k in (keep_v, keep_a))
    masks = iter([keep_v, keep_a])

    def dropout(x, p=0.5, training=True):
        assert p == rate
        return x * next(masks).view_as(x) if training else x

    monkeypatch.setattr(bi_attention.F, 'dropout', dropout)
    inputs = [visual, audio, *module.parameters()]
    results = []
    for outputs in (module(visual, audio), reference(module, visual, audio, keep_v, keep_a)):
        loss = sum((x * torch.linspace(-1, 1, x.numel()).view_as(x)).sum() for x in outputs)
        results.append((*outputs, *torch.autograd.grad(loss, inputs)))
    for ours, plain in zip(*results, strict=True):
        assert torch.allclose(ours, plain, atol=1e-12)


def test_dropout_is_off_in_evaluation_and_on_in_training():
    module = make(dropout=0.5)
    visual, audio = torch.randn(2, 7, 6), torch.randn(2, 1, 5)
    module.eval()
    first, again = module(visual, audio), module(visual, audio)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    module.train()
    assert not torch.equal(first[0], module(visual, audio)[0])
    assert not torch.equal(first[1], module(visual, audio)[1])
    module.dropout = 0.0
    assert torch.allclose(first[0], module(visual, audio)[0], atol=1e-6)


def test_dropout_keeps_the_mean():
    """What is kept is scaled up, also in the short cut for one token."""
    module = make(dropout=0.5)
    visual, audio = torch.randn(1, 2, 6), torch.randn(1, 1, 5)
    expected = module.eval()(visual, audio)[0]
    many = module.train()(visual.expand(4000, -1, -1), audio.expand(4000, -1, -1))[0]
    assert many.std(0).max() > 0.1
    standard_error = many.std(0) / len(many) ** 0.5
    assert ((many.mean(0) - expected[0]).abs() < 6 * standard_error + 1e-5).all()


def test_each_frame_hears_its_own_sound():
    module = make().eval()
    visual, audio = torch.randn(3, 7, 6), torch.randn(3, 1, 5)
    other = audio.clone()
    other[1] += torch.randn(5)
    before, after = module(visual, audio), module(visual, other)
    for x, y in zip(before, after, strict=True):
        assert torch.equal(x[[0, 2]], y[[0, 2]])
        assert not torch.allclose(x[1], y[1], atol=1e-3)


def test_sound_looks_at_every_position():
    module = make().eval()
    visual, audio = torch.randn(1, 7, 6, requires_grad=True), torch.randn(1, 1, 5)
    module(visual, audio)[1].sum().backward()
    assert (visual.grad.abs().sum(-1) > 0).all()


def test_sound_is_the_mean_over_positions_weighed_by_the_logits():
    """Two positions whose logits differ by 1: weights are e / (1 + e) and 1 / (1 + e)."""
    module = make(visual_channels=2, audio_channels=2, embed_dims=2, num_heads=1, layer_scale=1.0)
    with torch.no_grad():
        for linear in (module.query_v, module.key_a, module.value_v, module.out_a):
            linear.weight.copy_(torch.eye(2))
            linear.bias.zero_()
        module.gamma_a.fill_(1.0)
        module.key_a.weight.zero_()
        module.key_a.bias.copy_(torch.tensor([2**0.5 / 2, 0.0]))
    module.norm_v, module.norm_a = torch.nn.Identity(), torch.nn.Identity()
    visual = torch.tensor([[[2.0, 5.0], [0.0, 9.0]]])
    fused = module.eval()(visual, torch.zeros(1, 1, 2))[1]
    first = exp(1) / (1 + exp(1))
    expected = first * visual[0, 0] + (1 - first) * visual[0, 1]
    assert torch.allclose(fused[0, 0], expected, atol=1e-5)


def test_residual_is_on_the_normalised_input():
    module = BiAttention(6, 5, 8, 2, layer_scale=0.0).eval()
    visual, audio = torch.randn(2, 7, 6) * 3 + 1, torch.randn(2, 1, 5) * 3 + 1
    new_v, new_a = module(visual, audio)
    assert torch.equal(new_v, module.norm_v(visual)) and torch.equal(new_a, module.norm_a(audio))


def test_projections_start_without_bias():
    module = make()
    before = module.out_v.weight.clone()
    module.init_weights()
    linears = [m for m in module.children() if isinstance(m, torch.nn.Linear)]
    assert len(linears) == 6 and not any(m.bias.any() for m in linears)
    assert not torch.equal(before, module.out_v.weight)
    bound = (6 / (8 + 6)) ** 0.5
    assert 0.5 * bound < module.out_v.weight.abs().max() <= bound


@pytest.mark.parametrize(
    ('bad', 'message'),
    [
        (dict(embed_dims=9), 'multiple of num_heads, got 9 and 2'),
        (dict(dropout=1.0), r'in \[0, 1\), got 1.0'),
        (dict(dropout=-0.1), r'in \[0, 1\), got -0.1'),
    ],
)
def test_arguments_are_checked(bad, message):
    with pytest.raises(ValueError, match=message):
        make(**bad)
