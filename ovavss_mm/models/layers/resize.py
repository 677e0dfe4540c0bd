# SPDX-License-Identifier: Apache-2.0
"""Masks at the size of the input."""

from torch import Tensor
from torch.nn import functional as F


def resize_masks(masks: Tensor, pad_shape: tuple[int, ...], img_shape: tuple[int, ...] | None = None) -> Tensor:
    """Mask logits (S, T, h4, w4) at the padded input size, without the padding if ``img_shape`` is given."""
    masks = F.interpolate(masks, size=pad_shape, mode='bilinear', align_corners=False)
    return masks if img_shape is None else masks[..., : img_shape[0], : img_shape[1]]
