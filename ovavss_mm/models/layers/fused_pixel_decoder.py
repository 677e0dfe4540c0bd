# SPDX-License-Identifier: Apache-2.0
"""Mask2Former's pixel decoder behind a fusion neck."""

from typing import Any

from mmdet.models.layers import MSDeformAttnPixelDecoder
from mmengine.model import caffe2_xavier_init, normal_init
from mmseg.registry import MODELS
from torch import Tensor, nn

from .deform_attention import PlanarDeformableAttention


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
            layer.self_attn = PlanarDeformableAttention(plain_sampling, **layer.self_attn_cfg)
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
        return super().forward(feats)
