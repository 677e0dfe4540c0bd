# SPDX-License-Identifier: Apache-2.0
"""From named queries, or from dense logits, to one label a pixel (paper section 3.4)."""

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional as F

from ..layers.resize import resize_masks
from ..layers.sounding import drop_frames

FRAME_SHARE = 0.1  # of a pair's score in its clip, under which a frame of it is dropped


def best_pairs(named: InstanceData, max_pairs: int = 10, score_thr: float = 0.3) -> InstanceData:
    """Select the best pairs of query and class name.

    With scores of single frames (OV2Seg, CLIP-VIS), a pair is dropped from frames in which its score is under a tenth
    of that of the clip, and its score becomes that of the clip times the quality of its mask.

    Args:
        named (InstanceData): S queries with ``class_scores`` (S, N) in [0, 1], sound ``scores`` (S,), ``masks`` (S, T,
            h4, w4) logits and, if the classifier gives them, ``frame_scores`` (S, T, N).
        max_pairs (int): greatest number of pairs. Defaults to 10.
        score_thr (float): the score of a pair must be above this. Defaults to 0.3.

    Returns:
        Pairs, highest score first: ``scores``, ``labels`` (0-based names), ``sound_scores``, ``masks``; and of their
        queries ``class_scores`` (M, N) and, if there are such, ``frame_sounds`` (M, T) and ``query_embeds`` (M, C).
    """
    num_names = named.class_scores.shape[-1]
    scores, order = named.class_scores.flatten().topk(min(max_pairs, named.class_scores.numel()))
    query, labels = order // num_names, order % num_names
    if 'frame_scores' not in named:
        best = (scores > score_thr).nonzero()[:, 0]  # a GPU is waited for once, not for each part
        query, labels, scores = (part[best] for part in (query, labels, scores))
        masks = named.masks[query]
    else:
        frame_scores = named.frame_scores[query, :, labels]  # (M, T)
        masks = drop_frames(named.masks[query], frame_scores < FRAME_SHARE * scores[:, None])
        scores = scores * mask_quality(masks)
        best = scores.argsort(descending=True, stable=True)
        best = best[scores[best] > score_thr]
        query, labels, scores, masks = (part[best] for part in (query, labels, scores, masks))
    pairs = InstanceData(scores=scores, labels=labels, sound_scores=named.scores[query], masks=masks)
    pairs.class_scores = named.class_scores[query]
    if 'frame_sounds' in named:
        pairs.frame_sounds = named.frame_sounds[query]
    if 'query_embeds' in named:
        embeds = named.query_embeds[query]
        pairs.query_embeds = embeds if embeds.ndim == 2 else embeds.mean(1)  # (M, T, C) -> (M, C)
    return pairs


def mask_quality(masks: Tensor) -> Tensor:
    """Mean probability (M,) over the positive positions of mask logits (M, T, h, w)."""
    positive = (masks > 0).to(masks.dtype)
    return (masks.sigmoid() * positive).sum((1, 2, 3)) / (positive.sum((1, 2, 3)) + 1e-6)


def resize_pairs(
    pairs: InstanceData, img_shape: tuple[int, int], pad_shape: tuple[int, int], ori_shape: tuple[int, int]
) -> InstanceData:
    """Bring the masks of pairs to the size of the label map.

    Args:
        pairs (InstanceData): with ``masks`` (M, T, h4, w4) logits.
        img_shape (tuple[int, int]): size of the frames without padding.
        pad_shape (tuple[int, int]): size of the padded input.
        ori_shape (tuple[int, int]): (H, W), size of the label map.

    Returns:
        InstanceData: the same pairs with ``masks`` (M, T, H, W) bool, where the logits are above 0.
    """
    masks = [
        # one after the other: logits at full size are large
        original_logits(mask[None], img_shape, pad_shape, ori_shape)[0] > 0
        for mask in pairs.masks
    ]
    empty = torch.zeros(0, pairs.masks.shape[1], *ori_shape, dtype=torch.bool, device=pairs.masks.device)
    out = InstanceData(**{key: value for key, value in pairs.items() if key != 'masks'})
    out.masks = torch.stack(masks) if masks else empty
    return out


def dense_pairs(
    logits: Tensor, img_shape: tuple[int, int], pad_shape: tuple[int, int], ori_shape: tuple[int, int]
) -> InstanceData:
    """Turn dense logits into one pair for each class that is present.

    Args:
        logits (Tensor): (T, K, h, w): K = N + 1 classes, background first, of which a pixel has the greatest; or K = 1,
            whose sigmoid is above 0.5.
        img_shape (tuple[int, int]): size of the frames without padding.
        pad_shape (tuple[int, int]): size of the padded input.
        ori_shape (tuple[int, int]): (H, W), size of the label map.

    Returns:
        InstanceData: pairs as of :func:`resize_pairs`, whose masks do not overlap; ``scores`` are the mean
        probabilities in them.
    """
    parts = []
    for frame in logits.float().split(1):  # K maps at full size are large
        frame = original_logits(frame, img_shape, pad_shape, ori_shape)
        if frame.shape[1] == 1:
            frame = torch.cat([torch.zeros_like(frame), frame], 1)  # softmax of (0, x) is sigmoid
        parts.append(frame.softmax(1).max(1))
    probability, label_map = (torch.cat(x) for x in zip(*parts, strict=True))  # (T, H, W)
    labels = label_map.unique()
    labels = labels[labels > 0]
    masks = label_map[None] == labels[:, None, None, None]
    scores = (masks * probability).flatten(1).sum(1) / masks.flatten(1).sum(1)
    return InstanceData(labels=labels - 1, scores=scores, sound_scores=scores, masks=masks)


def paint(labels: list[int], masks: Tensor) -> Tensor:
    """Paint masks in order; a pixel once taken stays taken.

    Args:
        labels (list[int]): M 0-based names, best first.
        masks (Tensor): (M, H, W) bool.

    Returns:
        Tensor: label map (H, W) int64: 0 background, i + 1 name i.
    """
    label_map = torch.zeros(masks.shape[1:], dtype=torch.long, device=masks.device)
    for label, mask in zip(labels, masks, strict=True):
        label_map.masked_fill_(mask & (label_map == 0), label + 1)
    return label_map


def original_logits(
    maps: Tensor, img_shape: tuple[int, ...], pad_shape: tuple[int, ...], ori_shape: tuple[int, ...]
) -> Tensor:
    """Resize maps (A, B, h, w) to the label map, without padding; sizes as of :func:`resize_pairs`."""
    maps = resize_masks(maps, pad_shape, img_shape)
    if maps.shape[-2:] == tuple(ori_shape):
        return maps
    return F.interpolate(maps, size=ori_shape, mode='bilinear', align_corners=False)
