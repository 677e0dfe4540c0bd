# SPDX-License-Identifier: Apache-2.0
"""Mask2Former's pixel decoder behind a fusion neck."""

from typing import Any

import torch
from mmdet.models.layers import MSDeformAttnPixelDecoder
from mmengine.model import caffe2_xavier_init, normal_init
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from . import deform_attention
from .deform_attention import DeformableAttention

CACHED_TOKENS = 2048  # of whole frames, that are encoded at a time on a CPU


@MODELS.register_module()
class FusedPixelDecoder(MSDeformAttnPixelDecoder):
    """mmdet's pixel decoder whose input projections live in :class:`AVFusionNeck`.

    Takes f4 of the backbone and f8, f16, f32 of the neck, which have ``feat_channels`` already.

    Args:
        plain_sampling (bool): whether deformable attention takes mmcv's own path, to compare with. Defaults to False.
        **kwargs: as mmdet's.
    """

    def __init__(self, plain_sampling: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for layer in self.encoder.layers:
            layer.self_attn = DeformableAttention(plain_sampling, **layer.self_attn_cfg)
        self.input_convs = nn.ModuleList([nn.Identity() for _ in range(self.num_encoder_levels)])

    def init_weights(self) -> None:
        """Initialise as mmdet does, without the input projections."""
        for conv in [*self.lateral_convs, *self.output_convs]:
            caffe2_xavier_init(conv.conv, bias=0)
        caffe2_xavier_init(self.mask_feature, bias=0)
        normal_init(self.level_encoding, mean=0, std=1)
        for layer in self.encoder.layers:
            for parameter in layer.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
            layer.self_attn.init_weights()

    def forward(self, feats: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Refine the fused maps.

        Args:
            feats (list[Tensor]): f4 (M, c, h, w) and f8, f16, f32 (M, C, h, w) of M frames.

        Returns:
            tuple: per-pixel embeddings (M, C, h, w) at stride 4, and the refined maps (M, C, h, w), f32 first.
        """
        maps = feats[:0:-1]  # f32, f16, f8
        sizes = [(x.shape[-2], x.shape[-1]) for x in maps]
        positions = [
            self.postional_encoding(x.new_zeros((1, *size), dtype=torch.bool)) + embed[:, None, None]
            for x, size, embed in zip(maps, sizes, self.level_encoding.weight, strict=True)
        ]
        points = torch.cat([_centres(size, feats[0]) for size in sizes])  # (L, 2)
        tokens, positions = _tokens(maps), _tokens(positions)
        # on a CPU a few frames after the others: its cache holds no more
        whole = deform_attention.uses_planes(tokens)
        groups = [tokens] if whole else tokens.split(max(1, CACHED_TOKENS // tokens.shape[1]))
        first, *others = (self._encode(group, positions, points, sizes) for group in groups)
        memory = torch.cat([first, *others]) if others else first
        parts = memory.mT.split([height * width for height, width in sizes], dim=-1)
        # (M, C, h * w) -> (M, C, h, w)
        maps = [part.unflatten(-1, size) for part, size in zip(parts, sizes, strict=True)]
        lateral = self.lateral_convs[0](feats[0])
        finer = F.interpolate(maps[-1], lateral.shape[-2:], mode='bilinear', align_corners=False)
        return self.mask_feature(self.output_convs[0](lateral + finer)), maps[: self.num_outs]

    def _encode(self, tokens: Tensor, positions: Tensor, points: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
        """Refine tokens (M, L, C), with positions (1, L, C) at points (L, 2), of levels of these heights and widths."""
        return self.encoder(
            query=tokens,
            query_pos=positions.expand(tokens.shape[0], -1, -1),
            key_padding_mask=None,
            # for mmcv's kernel copied once, for all layers
            spatial_shapes=torch.tensor(sizes, device=points.device) if deform_attention.uses_kernel(points) else sizes,
            reference_points=points[None, :, None].expand(tokens.shape[0], -1, self.num_encoder_levels, -1),
            level_start_index=None,
            valid_ratios=None,
        )


def _tokens(maps: list[Tensor]) -> Tensor:
    """(M, L, C) of maps (M, C, h, w), one level after the other."""
    return torch.cat([x.flatten(2).mT for x in maps], dim=1)


def _centres(size: tuple[int, int], like: Tensor) -> Tensor:
    """Centres (h * w, 2) float32 of pixels, x and y in [0, 1]."""
    y, x = ((torch.arange(n, device=like.device) + 0.5) / n for n in size)
    return torch.stack(torch.meshgrid(x, y, indexing='xy'), dim=-1).flatten(0, 1)  # (h, w, 2) -> (h * w, 2)
