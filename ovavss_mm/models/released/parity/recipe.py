# SPDX-License-Identifier: Apache-2.0
"""How weights are drawn from the names in a published checkpoint."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def draw(key: str, shape: Sequence[int], seed: int) -> np.ndarray:
    """Draw a weight.

    Args:
        key: its published name.
        shape: its shape.
        seed: of the fixture.

    Returns:
        float32 array; standard deviation 1 / sqrt(inputs) for matrices, about 1 for scales, about 0
        for shifts.
    """
    rng = np.random.RandomState((zlib.crc32(key.encode()) + seed) % 2**32)
    noise = rng.standard_normal(int(np.prod(shape))).astype(np.float32).reshape(tuple(shape))
    if key.endswith('running_var'):
        return 1 + 0.1 * np.abs(noise)
    if len(shape) <= 1:
        return (1 if key.endswith('weight') else 0) + 0.05 * noise
    return noise / np.float32(np.sqrt(np.prod(shape[1:])))


def draw_state(shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, Tensor]:
    """Draw a published checkpoint.

    Args:
        shapes: published names to shapes.
        seed: of the fixture.

    Returns:
        Published names to float32 tensors; index buffers, which are computed, are left out.
    """
    return {
        key: torch.from_numpy(np.asarray(draw(key, shape, seed), dtype=np.float32))
        for key, shape in shapes.items()
        if not key.endswith('relative_position_index')
    }
