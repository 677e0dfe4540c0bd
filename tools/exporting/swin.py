# SPDX-License-Identifier: Apache-2.0
"""mmseg's Swin with sizes that may vary: its own windows fix a graph to the size that it was exported with."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType

import torch
from mmseg.models.backbones.swin import ShiftWindowMSA, WindowMSA
from torch import Tensor, nn
from torch.nn import functional as F


@contextmanager
def exportable_windows(module: nn.Module) -> Iterator[None]:
    """Within the context, windows of Swin are cut in a way that can be exported; results are the same."""
    parts = [part for part in module.modules() if isinstance(part, ShiftWindowMSA)]
    for part in parts:
        part.forward = MethodType(_forward, part)
    try:
        yield
    finally:
        for part in parts:
            del part.forward


def _forward(self: ShiftWindowMSA, query: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """Attention in windows: (M, H * W, C) to the same."""
    (height, width), size, shift = hw_shape, self.window_size, self.shift_size
    rows, columns = (height + size - 1) // size, (width + size - 1) // size
    x = query.unflatten(1, (height, width))
    x = F.pad(x, (0, 0, 0, columns * size - width, 0, rows * size - height))
    x = torch.roll(x, (-shift, -shift), (1, 2)) if shift else x
    # (M, rows * size, columns * size, C) -> (M, rows * columns, size * size, C)
    windows = x.unflatten(2, (columns, size)).unflatten(1, (rows, size)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    x = _attend(self.w_msa, windows, _mask(rows, columns, size, shift) if shift else None)
    # and back
    x = x.unflatten(2, (size, size)).unflatten(1, (rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    x = torch.roll(x, (shift, shift), (1, 2)) if shift else x
    return self.drop(x[:, :height, :width].flatten(1, 2))


def _mask(rows: int, columns: int, size: int, shift: int) -> Tensor:
    """(rows * columns, 1, size * size, size * size), -100 between positions that the shift brought together."""
    zones = []
    for count in (rows * size, columns * size):
        at = torch.arange(count)
        zones.append((at >= count - size).int() + (at >= count - shift).int())
    zone = 3 * zones[0][:, None] + zones[1]  # (rows * size, columns * size)
    # -> (rows * columns, size * size)
    zone = zone.unflatten(1, (columns, size)).unflatten(0, (rows, size)).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    return torch.where(zone[:, None] == zone[:, :, None], 0.0, -100.0)[:, None]


def _attend(part: WindowMSA, x: Tensor, mask: Tensor | None) -> Tensor:
    """Attention within windows (M, windows, L, C)."""
    length = part.window_size[0] * part.window_size[1]
    # (M, windows, L, 3 * C) -> three of (M, windows, heads, L, d)
    query, key, value = part.qkv(x).unflatten(3, (3, part.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)
    bias = part.relative_position_bias_table[part.relative_position_index.view(-1)]
    logits = (query * part.scale) @ key.mT + bias.view(length, length, -1).permute(2, 0, 1)
    weights = (logits if mask is None else logits + mask).softmax(-1)
    return part.proj((weights @ value).transpose(2, 3).flatten(3))  # (M, windows, L, heads, d) -> (.., C)
