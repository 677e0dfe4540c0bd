# SPDX-License-Identifier: Apache-2.0
"""From named queries to one label a pixel (paper section 3.6)."""

from collections.abc import Iterator

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional as F

from ..layers.resize import resize_masks


def best_pairs(named: InstanceData, max_pairs: int = 10, score_thr: float = 0.3) -> InstanceData:
    """The best pairs of query and name.

    Args:
        named: S queries with ``class_scores`` (S, N) in [0, 1], ``sound_scores`` (S,) and ``masks``
            (S, T, h4, w4) logits.
        max_pairs: how many pairs at most.
        score_thr: a pair's score must be above this.

    Returns:
        Pairs, highest score first: ``scores``, ``labels`` (0-based names), ``sound_scores``, ``masks``.
    """
    num_names = named.class_scores.shape[-1]
    flat = named.class_scores.flatten()
    scores, order = flat.topk(min(max_pairs, len(flat)))
    order = order[scores > score_thr]
    query = order // num_names
    return InstanceData(
        scores=flat[order],
        labels=order % num_names,
        sound_scores=named.sound_scores[query],
        masks=named.masks[query],
    )


def paint_pairs(
    pairs: InstanceData,
    frames: Tensor,
    pad_shape: tuple[int, int],
    ori_shape: tuple[int, int],
    num_names: int,
) -> Tensor:
    """Paint pairs in order; a pixel once taken stays taken.

    Args:
        pairs: ``masks`` (M, T, h4, w4) logits and ``labels`` (M,), best first.
        frames: (T, 3, h, w), for their size, T and device.
        pad_shape: size of the padded input.
        ori_shape: size of the label map.
        num_names: N.

    Returns:
        (T, H, W) at ``ori_shape``: 0 background, i + 1 name i; uint8, or int16 for 255 names and more.
    """
    dtype = torch.uint8 if num_names < 255 else torch.int16  # 255 means 'not annotated'
    label_map = torch.zeros(len(frames), *ori_shape, dtype=dtype, device=frames.device)
    masks = pair_masks(pairs, frames, pad_shape, ori_shape)
    for mask, label in zip(masks, pairs.labels, strict=True):
        label_map[mask & (label_map == 0)] = (label + 1).to(dtype)
    return label_map


def pair_masks(
    pairs: InstanceData, frames: Tensor, pad_shape: tuple[int, int], ori_shape: tuple[int, int]
) -> Iterator[Tensor]:
    """Where the mask of each pair is above 0, at the size of the label map.

    Args:
        pairs: ``masks`` (M, T, h4, w4) logits.
        frames: (T, 3, h, w), for their size.
        pad_shape: size of the padded input.
        ori_shape: size of the label map.

    Yields:
        (T, H, W) bool, one pair after the other: masks at full size are large.
    """
    for mask in pairs.masks:
        mask = resize_masks(mask[None], pad_shape, tuple(frames.shape[-2:]))
        if mask.shape[-2:] != tuple(ori_shape):
            mask = F.interpolate(mask, size=ori_shape, mode='bilinear', align_corners=False)
        yield mask[0] > 0
