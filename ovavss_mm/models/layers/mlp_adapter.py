# SPDX-License-Identifier: Apache-2.0
"""A small trained bottleneck behind a frozen MLP."""

from mmcv.cnn import build_activation_layer
from torch import Tensor, nn


class MLPAdapter(nn.Module):
    """An MLP, followed by a bottleneck with a residual sum: y = mlp(x), then y + up(act(down(y))).

    Args:
        mlp (nn.Module): (..., C) to (..., C); it is taken as it is, with the gradients that it has.
        channels (int): C.
        width (int): of the bottleneck.
        act (str): type of the activation between its two layers, such as 'ReLU' or 'GELU'.
        used (bool): False only keeps the bottleneck's weights, frozen, and runs the MLP alone. Defaults to True.
    """

    def __init__(self, mlp: nn.Module, channels: int, width: int, act: str, used: bool = True) -> None:
        super().__init__()
        self.mlp, self.used = mlp, used
        self.down, self.up = nn.Linear(channels, width), nn.Linear(width, channels)
        self.act = build_activation_layer(dict(type=act))
        for layer in (self.down, self.up):
            layer.requires_grad_(used)

    def forward(self, x: Tensor) -> Tensor:
        """Features (..., C) float32 to features of the same shape."""
        y = self.mlp(x)
        return y + self.up(self.act(self.down(y))) if self.used else y
