# SPDX-License-Identifier: Apache-2.0
"""The short form of TPAVI against the one that makes the affinity of all pairs of positions."""

import pytest
import torch
from quadratic_tpavi import QuadraticBlock
from tiny_model import draw_weights

from ovavss_mm.models.layers.tpavi_block import TPAVIBlock

C, DA, WINDOW = 8, 6, 5


def make_block(**options) -> TPAVIBlock:
    torch.manual_seed(0)
    return draw_weights(TPAVIBlock(C, DA, WINDOW, **options)).double()


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('audio_bias', [False, True])
def test_equals_the_quadratic_form_in_value_and_gradient(training, audio_bias):
    block = make_block(audio_bias=audio_bias).train(training)
    weights = torch.randn(2 * WINDOW, C, 3, 4, dtype=torch.double)
    grads, outputs = [], []
    for form in (TPAVIBlock, QuadraticBlock):
        block.__class__ = form
        torch.manual_seed(1)
        x = torch.randn(2 * WINDOW, C, 3, 4, dtype=torch.double, requires_grad=True)
        audio = torch.randn(2 * WINDOW, DA, dtype=torch.double, requires_grad=True)
        block.zero_grad()
        out, _ = block(x, audio)
        (out * weights).sum().backward()
        outputs.append(out.detach())
        named = {name: p.grad.clone() for name, p in block.named_parameters()}
        grads.append(named | dict(x=x.grad, audio=audio.grad))
    assert torch.allclose(*outputs, atol=1e-10)
    for name, grad in grads[0].items():
        assert torch.allclose(grad, grads[1][name], atol=1e-8), name
    assert grads[0]['theta.weight'].abs().max() > 1e-3, 'the comparison is of something'


def test_windows_do_not_see_each_other():
    block = make_block().eval()
    x, audio = torch.randn(10, C, 3, 4).double(), torch.randn(10, DA).double()
    other = x.clone()
    other[7] += 1
    same = [torch.equal(a, b) for a, b in zip(block(x, audio)[0], block(other, audio)[0], strict=True)]
    assert same == [True] * 5 + [False] * 5


def test_starts_as_the_layer_norm():
    torch.manual_seed(0)
    block = TPAVIBlock(C, DA)
    block.init_weights()
    x = torch.randn(5, C, 2, 3)
    out, aligned = block(x, torch.randn(5, DA))
    wanted = torch.nn.functional.layer_norm(x.movedim(1, -1), (C,)).movedim(-1, 1)
    assert torch.allclose(out, wanted, atol=1e-6) and aligned.shape == (5, C)
