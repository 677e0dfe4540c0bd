# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ovavss_mm.engine.benchmark.flops import counting, matmul_ceiling
from ovavss_mm.engine.benchmark.timer import Hook, StageTimer, patched


def count(hooks, work):
    """Operations of a piece of work by stage."""
    with counting() as clock:
        timer = StageTimer(clock)
        with patched(hooks, timer.wrap), timer.step():
            work()
    return timer.steps[0]


def test_operations_go_to_their_stage_forward_and_backward():
    linear, conv = nn.Linear(8, 16), nn.Conv2d(3, 5, 3, padding=1)
    tokens, image = torch.randn(4, 8), torch.randn(2, 3, 6, 7)
    hooks = [Hook('linear', linear, 'forward'), Hook('conv', conv, 'forward')]

    def work():
        (linear(tokens).sum() + conv(image).sum()).backward()

    forward = dict(linear=2 * 4 * 8 * 16, conv=2 * (2 * 6 * 7) * 5 * (3 * 3 * 3))
    # the inputs have no gradient: going back costs as much again, for the weights
    assert count(hooks, work) == dict(forward, other=sum(forward.values()))


@pytest.mark.parametrize('fused', [True, False], ids=['sdpa', 'module'])
def test_attention_is_counted_also_where_torch_has_a_fused_one(fused):
    attention = nn.MultiheadAttention(16, 2, batch_first=True).eval()
    x = torch.randn(3, 10, 16)

    def work():
        with torch.no_grad():
            if fused:
                F.scaled_dot_product_attention(x, x, x)
            else:
                attention(x, x, x, need_weights=False)

    products = 2 * 2 * 3 * 10 * 10 * 16
    projections = 0 if fused else 2 * 3 * 10 * 16 * 4 * 16
    assert count([], work) == dict(other=products + projections)
    assert torch.backends.mha.get_fastpath_enabled()


def test_settings_are_restored_after_an_error():
    with pytest.raises(KeyError), counting():
        raise KeyError
    assert torch.backends.mha.get_fastpath_enabled()


def test_ceiling_is_a_positive_rate():
    for dtype in (torch.float32, torch.bfloat16):
        assert matmul_ceiling('cpu', dtype, size=32, seconds=0) > 0
