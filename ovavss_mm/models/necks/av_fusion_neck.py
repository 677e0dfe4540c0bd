# SPDX-License-Identifier: Apache-2.0
"""Early audio-visual fusion (paper section 3.3)."""

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, ModuleList, xavier_init
from mmseg.registry import MODELS
from torch import Tensor

LEVELS = ('f8', 'f16', 'f32')


@MODELS.register_module()
class AVFusionNeck(BaseModule):
    """Projects f8, f16, f32 to C channels and fuses them, as one sequence, with the frame's audio.

    f4 passes unchanged. The projections belong to the pixel decoder; they stand here because fusion takes
    place between them and its encoder.

    Args:
        in_channels (Sequence[int]): channels of f4, f8, f16, f32. Defaults to (256, 512, 1024, 2048).
        out_channels (int): C. Defaults to 256.
        audio_channels (int): Da. Defaults to 128.
        norm_cfg (dict, optional): norm of the projections. Defaults to None.
        fusion (dict, optional): config of the fusion, :class:`BiAttention` (the paper's) or :class:`AddFusion`, without
            the two channel numbers. None for no early fusion: maps are projected, audio passes unchanged.
        fused_levels (Sequence[str]): maps that are fused, of ``LEVELS``; the others are only projected (paper Table 3).

    Raises:
        ValueError: not four numbers of input channels; a level that is unknown or given twice, or none.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (256, 512, 1024, 2048),
        out_channels: int = 256,
        audio_channels: int = 128,
        norm_cfg: dict | None = None,
        fusion: dict | None = None,
        fused_levels: Sequence[str] = LEVELS,
    ) -> None:
        super().__init__()
        if len(in_channels) != 4:
            raise ValueError(f'in_channels must be those of f4, f8, f16, f32, got {in_channels}')
        known = set(fused_levels) <= set(LEVELS) and not isinstance(fused_levels, str)
        if not known or not fused_levels or len(set(fused_levels)) != len(fused_levels):
            raise ValueError(f'fused_levels must be some of {LEVELS}, got {fused_levels!r}')
        norm_cfg = norm_cfg or dict(type='GN', num_groups=32)
        self.input_convs = ModuleList(
            [ConvModule(c, out_channels, 1, bias=True, norm_cfg=norm_cfg, act_cfg=None) for c in in_channels[1:]]
        )
        channels = dict(visual_channels=out_channels, audio_channels=audio_channels)
        self.fusion = None if fusion is None else MODELS.build(dict(fusion, **channels))
        self.needs_audio = self.fusion is not None
        # low to high resolution: the order in which the maps are joined
        self.fused = [i for i in (2, 1, 0) if LEVELS[i] in fused_levels]

    def init_weights(self) -> None:
        """Xavier weights in the projections, as in Mask2Former's pixel decoder."""
        super().init_weights()
        for conv in self.input_convs:
            xavier_init(conv.conv, gain=1, bias=0, distribution='uniform')

    def forward(self, feats: Sequence[Tensor], audio: Tensor, num_frames: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """Fuse the M = B * T frames of B clips with their audio.

        Args:
            feats (Sequence[Tensor]): f4, f8, f16, f32 of M frames, each (M, c, h, w).
            audio (Tensor): (M, Da) audio embeddings, or (M, S, Da) where a frame has S audio tokens.
            num_frames (int): T, for fusions over time.

        Returns:
            tuple: the maps, f4 unchanged, f8, f16, f32 (M, C, h, w) fused; and the fused audio in its shape.
        """
        maps = [conv(x) for conv, x in zip(self.input_convs, feats[1:], strict=True)]
        if self.fusion is None:
            return (feats[0], *maps), audio
        fused = [maps[i] for i in self.fused]
        # (M, C, h, w) -> (M, L, C)
        visual = torch.cat([x.flatten(2).transpose(1, 2) for x in fused], dim=1)
        tokens = audio.unsqueeze(1) if audio.ndim == 2 else audio  # (M, S, Da)
        visual, tokens = self.fusion(visual, tokens, num_frames)
        parts = visual.split([x.shape[-2] * x.shape[-1] for x in fused], dim=1)
        for i, part in zip(self.fused, parts, strict=True):
            # (M, h * w, C) -> (M, C, h, w)
            maps[i] = part.transpose(1, 2).reshape(maps[i].shape)
        return (feats[0], *maps), tokens.reshape(audio.shape)
