# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from tiny_model import draw_weights
from torch import Tensor

from ovavss_mm.models.layers import GatedFusion


def make(**kwargs) -> GatedFusion:
    sizes = dict(visual_channels=6, audio_channels=5, embed_dims=8, num_heads=2)
    return draw_weights(GatedFusion(**(sizes | kwargs)), 0.5).double().eval()


def make_tokens(frames: int = 3, positions: int = 7, tokens: int = 2) -> tuple[Tensor, Tensor]:
    shapes = (frames, positions, 6), (frames, tokens, 5)
    return tuple(torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes)


def reference(module: GatedFusion, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """By loops over frames and heads."""
    visual, audio = module.norm_v(visual), module.norm_a(audio)
    new_v, new_a = [], []
    for v, a in zip(visual, audio, strict=True):
        heads_v, heads_a = [], []
        for h, bias in enumerate(module.bias):
            part = slice(4 * h, 4 * h + 4)
            logits = module.query_v(v)[:, part] @ module.key_a(a)[:, part].T / 2 + bias  # (L, S)
            gates = 1 / (1 + (-logits).exp())
            heads_v.append(gates @ module.value_a(a)[:, part])
            heads_a.append(gates.T @ module.value_v(v)[:, part] / (gates.sum(0)[:, None] + 1))
        new_v.append(v + module.gamma_v * module.out_v(torch.cat(heads_v, 1)))
        new_a.append(a + module.gamma_a * module.out_a(torch.cat(heads_a, 1)))
    return torch.stack(new_v), torch.stack(new_a)


@pytest.mark.parametrize('tokens', [1, 3])
def test_equals_plain_loops_in_value_and_gradient(tokens):
    module = make()
    inputs = make_tokens(tokens=tokens)
    results = []
    for outputs in (module(*inputs), reference(module, *inputs)):
        loss = sum((x * torch.linspace(-1, 1, x.numel()).view_as(x)).sum() for x in outputs)
        results.append([*outputs, *torch.autograd.grad(loss, [*inputs, *module.parameters()])])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_closed_gates_let_nothing_through():
    module = make()
    visual, audio = make_tokens()
    with torch.no_grad():
        module.bias.fill_(-1e4)
    fused = module(visual, audio)
    other = module(visual, audio + torch.randn_like(audio))
    assert torch.allclose(fused[0], other[0], atol=1e-10), 'no position hears'
    moved = module(visual + torch.randn_like(visual), audio)
    assert torch.allclose(fused[1], moved[1], atol=1e-10), 'no sound sees'


def test_gates_are_dropped_in_training_only():
    module, tokens = make(dropout=0.5), make_tokens()
    assert torch.equal(module(*tokens)[0], module(*tokens)[0])
    module.train()
    assert not torch.equal(module(*tokens)[0], module(*tokens)[0])


def test_match_is_that_of_the_best_token_whatever_else_sounds():
    """Each pair of frames by itself; a token that matches nothing changes nothing."""
    module = make()
    visual, audio = make_tokens(frames=4)
    match = module.match(visual, audio[:2])
    assert match.shape == (4, 2, 7)
    for m in range(4):
        for a in range(2):
            assert torch.allclose(module.match(visual[m : m + 1], audio[a : a + 1])[0, 0], match[m, a])
    tokens = module.key_a(module.norm_a(audio[:1]))[0]  # (S, E)
    query = module.query_v(module.norm_v(visual[0]))
    logits = query @ tokens.T / (4**0.5 * 2**0.5)
    assert torch.allclose(match[0, 0], logits.logsumexp(1) + module.bias.mean())


def test_bfloat16_gives_about_the_same():
    module, tokens = make().float(), [x.float() for x in make_tokens()]
    exact = (*module(*tokens), module.match(*tokens))
    with torch.autocast('cpu', torch.bfloat16):
        rough = (*module(*tokens), module.match(*tokens))
    for x, y in zip(exact, rough, strict=True):
        assert torch.allclose(x, y.float(), atol=0.05 * x.abs().max().item())


@pytest.mark.parametrize(
    ('wrong', 'words'), [(dict(embed_dims=9), 'got 9 and 2'), (dict(dropout=1.0), r'in \[0, 1\), got 1.0')]
)
def test_arguments_are_checked(wrong, words):
    with pytest.raises(ValueError, match=words):
        make(**wrong)
