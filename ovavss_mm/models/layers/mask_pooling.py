# SPDX-License-Identifier: Apache-2.0
"""Pooling of a CLIP tower's last map over masks."""

import torch
from open_clip.modified_resnet import AttentionPool2d
from open_clip.timm_model import TimmModel
from torch import Tensor
from torch.nn import functional as F


def attention_pool(pool: AttentionPool2d, dense: Tensor, masks: Tensor) -> Tensor:
    """CLIP's attention pool over the positions of each mask (CLIP-VIS).

    The query is the mean over all positions, the padding's included, and the same for all masks. Unlike in CLIP the
    mean is not among the keys and values.

    Args:
        pool (AttentionPool2d): of a CLIP with a ResNet; its positions are resized to the map.
        dense (Tensor): (T, c, h, w) float32, last maps of T frames.
        masks (Tensor): (T, S, h, w) bool.

    Returns:
        Tensor: (T, S, D) float32, not normalised; 0 for a mask without a position.
    """
    position = pool.positional_embedding
    side = round((len(position) - 1) ** 0.5)
    spatial = position[1:].T.unflatten(1, (side, side))[None]  # (1, c, side, side)
    spatial = F.interpolate(spatial, dense.shape[-2:], mode='bilinear', align_corners=False)
    tokens = (dense + spatial).flatten(2).mT  # (T, L, c)
    query = (dense.mean((2, 3)) + position[0])[:, None]  # (T, 1, c)
    parts = (proj(x) for proj, x in ((pool.q_proj, query), (pool.k_proj, tokens), (pool.v_proj, tokens)))
    # (T, L, c) -> (T, heads, L, c / heads)
    query, key, value = (x.unflatten(-1, (pool.num_heads, -1)).transpose(1, 2) for x in parts)
    inside = masks.flatten(2)  # (T, S, L)
    empty = ~inside.any(-1, keepdim=True)
    attended = (inside | empty)[:, None]  # a softmax over nothing has no value
    pooled = F.scaled_dot_product_attention(query.expand(-1, -1, masks.shape[1], -1), key, value, attn_mask=attended)
    pooled = pool.c_proj(pooled.transpose(1, 2).flatten(2))  # (T, heads, S, c / heads) -> (T, S, D)
    return pooled.float().masked_fill(empty, 0)


def mean_pool(tower: TimmModel, dense: Tensor, masks: Tensor) -> Tensor:
    """Mean over the positions of each mask, as a ConvNeXt CLIP takes it over all; see :func:`attention_pool`."""
    weights = masks.flatten(2).to(dense)  # (T, S, L)
    count = weights.sum(-1, keepdim=True)
    pooled = torch.bmm(weights, dense.flatten(2).mT) / count.clamp(min=1)  # (T, S, c)
    # its norm and projection stand behind the mean
    embeddings = tower.head(tower.trunk.forward_head(pooled.flatten(0, 1)[..., None, None]))
    return embeddings.float().unflatten(0, masks.shape[:2]).masked_fill(count == 0, 0)
