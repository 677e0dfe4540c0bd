# SPDX-License-Identifier: Apache-2.0
import torch
from torch import nn
from torch.nn import functional as F

from ovavss_mm.models.layers.refine_block import RefineBlock, ResidualConvUnit


def test_residual_is_what_a_relu_in_place_leaves():
    """The published code's first ReLU works in place, so what it adds at the end is no longer x."""
    torch.manual_seed(0)
    unit, x = ResidualConvUnit(4), torch.randn(2, 4, 5, 6)
    kept = x.clone()
    out = F.relu(kept, inplace=True)
    out = unit.conv2(F.relu(unit.conv1(out), inplace=True))
    assert torch.allclose(unit(x), out + kept, atol=1e-6)
    unit.relu_residual = False
    assert torch.allclose(unit(x), out + x, atol=1e-6)


def test_joins_a_map_with_a_finer_one_and_doubles_it():
    torch.manual_seed(0)
    block = RefineBlock(4)
    x, skip = torch.randn(2, 2, 4, 3, 4)
    wanted = nn.functional.interpolate(
        block.out_unit(x + block.skip_unit(skip)), (6, 8), mode='bilinear', align_corners=True
    )
    assert torch.equal(block(x, skip), wanted)
    assert block(x).shape == (2, 4, 6, 8)
    assert RefineBlock(4, with_skip=False).skip_unit is None
