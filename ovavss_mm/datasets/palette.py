# SPDX-License-Identifier: Apache-2.0
"""The PASCAL VOC colour map, from index to colour and back.

Bit 3k of an index is bit 7 - k of red, bit 3k + 1 of green, bit 3k + 2 of blue: all 24 bits are used once, so the map
is a bijection between indices and colours.
"""

import cv2
import numpy as np


def voc_palette(num_colors: int) -> list[list[int]]:
    """Colours of the indices 0 .. num_colors - 1, at most 2**24, else ValueError.

    Returns:
        list[list[int]]: num_colors rows [red, green, blue], each 0..255; row 0 is black.
    """
    if not 0 <= num_colors <= 2**24:
        raise ValueError(f'num_colors must be from 0 to {2**24}, got {num_colors}')
    index, channel = np.arange(num_colors)[:, None], np.arange(3)
    bits = [(index >> (3 * k + channel) & 1) << (7 - k) for k in range(8)]
    return np.sum(bits, 0).tolist()


# Which bits of the index each value of each channel sets: uint32 (3, 256).
_CHANNEL, _VALUE = np.ogrid[:3, :256]
_PARTS = sum((_VALUE >> (7 - k) & 1) << (3 * k + _CHANNEL) for k in range(8)).astype(np.uint32)
# For cv2.LUT, (1, 256, 3): the lower eight bits of the parts, and whether there are others.
_LOW = np.ascontiguousarray((_PARTS & 255).astype(np.uint8).T[None])
_HIGH = np.ascontiguousarray((_PARTS > 255).astype(np.uint8).T[None])


def voc_index(colors: np.ndarray) -> np.ndarray:
    """Indices of any colours: uint8 (..., 3) RGB to uint32 (...), 0 .. 2**24 - 1."""
    return _PARTS[0][colors[..., 0]] | _PARTS[1][colors[..., 1]] | _PARTS[2][colors[..., 2]]


def voc_labels(colors: np.ndarray) -> np.ndarray | None:
    """As :func:`voc_index`, several times faster: uint8 (H, W, 3) RGB to uint8 (H, W); None if an index exceeds 255."""
    if cv2.LUT(colors, _HIGH).any():
        return None
    red, green, blue = cv2.split(cv2.LUT(colors, _LOW))
    return cv2.bitwise_or(cv2.bitwise_or(red, green), blue)
