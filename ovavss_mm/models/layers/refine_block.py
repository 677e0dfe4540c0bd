# SPDX-License-Identifier: Apache-2.0
"""Decoder steps that join a coarse map with a finer one, as in TPAVI (paper Table 2)."""

from torch import Tensor, nn
from torch.nn import functional as F


class ResidualConvUnit(nn.Module):
    """Two 3 x 3 convolutions and a residual.

    Args:
        channels (int): C.
        relu_residual (bool): whether the residual is relu(x), as in the published code, whose first ReLU works in
            place; else it is x. Defaults to True.
    """

    def __init__(self, channels: int, relu_residual: bool = True) -> None:
        super().__init__()
        self.relu_residual = relu_residual
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Refine a map (M, C, h, w)."""
        active = x.relu()
        return (active if self.relu_residual else x) + self.conv2(self.conv1(active).relu())


class RefineBlock(nn.Module):
    """Adds a refined skip map to a map, refines the sum and doubles its size.

    Args:
        channels (int): C.
        relu_residual (bool): see :class:`ResidualConvUnit`. Defaults to True.
        with_skip (bool): False: without the unit for a skip map. Defaults to True.
    """

    def __init__(self, channels: int, relu_residual: bool = True, with_skip: bool = True) -> None:
        super().__init__()
        self.skip_unit = ResidualConvUnit(channels, relu_residual) if with_skip else None
        self.out_unit = ResidualConvUnit(channels, relu_residual)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Join maps (M, C, h, w), the second one optional: (M, C, 2 h, 2 w)."""
        if skip is not None:
            x = x + self.skip_unit(skip)
        return F.interpolate(self.out_unit(x), scale_factor=2, mode='bilinear', align_corners=True)
