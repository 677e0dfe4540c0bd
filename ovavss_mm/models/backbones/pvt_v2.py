# SPDX-License-Identifier: Apache-2.0
"""PVT v2 with the epsilons of its authors' code, as TPAVI and CATR use it (paper Table 2)."""

from typing import Any

from mmdet.models.backbones import PyramidVisionTransformerV2
from mmseg.registry import MODELS


@MODELS.register_module()
class PVTv2(PyramidVisionTransformerV2):
    """mmdet's PVT v2, whose patch embeddings and reductions have a layer norm of another epsilon than the blocks.

    Args:
        embed_eps (float): of the layer norms after patch embeddings and reductions. Defaults to 1e-5.
        **kwargs: of mmdet's; its ``norm_cfg``, of epsilon 1e-6, is of all layer norms.

    Raises:
        ValueError: ``embed_eps`` is not positive.
    """

    def __init__(self, embed_eps: float = 1e-5, **kwargs: Any) -> None:
        if embed_eps <= 0:
            raise ValueError(f'embed_eps must be positive, got {embed_eps}')
        super().__init__(**kwargs)
        for embed, blocks, _ in self.layers:
            embed.norm.eps = embed_eps
            for block in blocks:
                if block.attn.sr_ratio > 1:
                    block.attn.norm.eps = embed_eps
