# SPDX-License-Identifier: Apache-2.0
"""The adapter around an MLP."""

import pytest
import torch
from torch import nn

from ovavss_mm.models.layers.mlp_adapter import MLPAdapter


@pytest.mark.parametrize('act', ['ReLU', 'GELU'])
def test_it_adds_a_bottleneck_to_what_the_mlp_gives(act):
    torch.manual_seed(0)
    mlp = nn.Linear(6, 6).requires_grad_(False)
    adapter, x = MLPAdapter(mlp, 6, 3, act), torch.randn(2, 4, 6)
    y = mlp(x)
    hidden = getattr(nn.functional, act.lower())(y @ adapter.down.weight.T + adapter.down.bias)
    torch.testing.assert_close(adapter(x), y + hidden @ adapter.up.weight.T + adapter.up.bias)
    assert {name for name, p in adapter.named_parameters() if p.requires_grad} == {
        f'{layer}.{kind}' for layer in ('down', 'up') for kind in ('weight', 'bias')
    }


def test_one_that_is_not_used_is_the_mlp_and_does_not_train():
    mlp, x = nn.Linear(6, 6), torch.randn(3, 6)
    adapter = MLPAdapter(mlp, 6, 3, 'ReLU', used=False)
    assert torch.equal(adapter(x), mlp(x))
    assert {name for name, p in adapter.named_parameters() if p.requires_grad} == {'mlp.weight', 'mlp.bias'}
