# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from ovavss_mm.models import PVTv2

SMALL = dict(embed_dims=8, num_layers=[1, 1, 1, 1], num_heads=[1, 2, 5, 8], mlp_ratios=[4, 4, 4, 4])


def test_epsilons_are_those_of_the_published_code():
    model = PVTv2(**SMALL, norm_cfg=dict(type='LN', eps=1e-6))
    seen = {name: module.eps for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    embedded = {name for name in seen if name.endswith(('.0.norm', '.attn.norm'))}
    assert len(embedded) == 4 + 3, 'patch embeddings of four stages, reductions of three'
    assert {seen[name] for name in embedded} == {1e-5}
    assert {eps for name, eps in seen.items() if name not in embedded} == {1e-6}


def test_maps_have_strides_4_to_32():
    maps = PVTv2(**SMALL)(torch.randn(2, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(2, 8, 16, 24), (2, 16, 8, 12), (2, 40, 4, 6), (2, 64, 2, 3)]


def test_epsilon_must_be_positive():
    with pytest.raises(ValueError, match='embed_eps must be positive, got 0'):
        PVTv2(embed_eps=0, **SMALL)
