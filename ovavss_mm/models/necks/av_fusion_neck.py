# SPDX-License-Identifier: Apache-2.0
"""Early audio-visual fusion (paper section 3.3)."""

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, ModuleList, xavier_init
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

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
        fusion (dict, optional): config of the fusion, :class:`BiAttention` (the paper's), :class:`AddFusion` or
            :class:`GatedFusion`, without the two channel numbers. None for no early fusion: maps are projected, audio
            passes unchanged.
        fused_levels (Sequence[str]): maps that are fused, of ``LEVELS``; the others are only projected (paper Table 3).
        audio_dropout (float): share of audio channels that are dropped in training. Defaults to 0.
        loss_match (dict, optional): config of :class:`SoundMatchLoss`, for a fusion with a ``match``, as
            :class:`GatedFusion` has. Defaults to None.

    Raises:
        ValueError: not four numbers of input channels; a level that is unknown or given twice, or none; a dropout
            outside [0, 1); a loss without a fusion that matches.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (256, 512, 1024, 2048),
        out_channels: int = 256,
        audio_channels: int = 128,
        norm_cfg: dict | None = None,
        fusion: dict | None = None,
        fused_levels: Sequence[str] = LEVELS,
        audio_dropout: float = 0.0,
        loss_match: dict | None = None,
    ) -> None:
        super().__init__()
        if len(in_channels) != 4:
            raise ValueError(f'in_channels must be those of f4, f8, f16, f32, got {in_channels}')
        known = set(fused_levels) <= set(LEVELS) and not isinstance(fused_levels, str)
        if not known or not fused_levels or len(set(fused_levels)) != len(fused_levels):
            raise ValueError(f'fused_levels must be some of {LEVELS}, got {fused_levels!r}')
        if not 0 <= audio_dropout < 1:
            raise ValueError(f'audio_dropout must be in [0, 1), got {audio_dropout!r}')
        norm_cfg = norm_cfg or dict(type='GN', num_groups=32)
        self.input_convs = ModuleList(
            [ConvModule(c, out_channels, 1, bias=True, norm_cfg=norm_cfg, act_cfg=None) for c in in_channels[1:]]
        )
        channels = dict(visual_channels=out_channels, audio_channels=audio_channels)
        self.fusion = None if fusion is None else MODELS.build(dict(fusion, **channels))
        self.needs_audio = self.fusion is not None
        self.dropout = nn.Dropout(audio_dropout)
        self.loss_match = None if loss_match is None else MODELS.build(loss_match)
        if loss_match is not None and not hasattr(self.fusion, 'match'):
            raise ValueError(
                f'loss_match supervises the gates of GatedFusion, the fusion is {type(self.fusion).__name__}'
            )
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
        maps, audio = self._project(feats), self.dropout(audio)
        if self.fusion is None:
            return (feats[0], *maps), audio
        visual, tokens = self.fusion(*self._tokens(maps, audio), num_frames)
        parts = visual.split([maps[i].shape[-2] * maps[i].shape[-1] for i in self.fused], dim=1)
        for i, part in zip(self.fused, parts, strict=True):
            # (M, h * w, C) -> (M, C, h, w)
            maps[i] = part.transpose(1, 2).reshape(maps[i].shape)
        return (feats[0], *maps), tokens.reshape(audio.shape)

    def loss(self, feats: Sequence[Tensor], audio: Tensor, data_samples: Sequence[SegDataSample]) -> dict[str, Tensor]:
        """Losses of the fusion itself, of B clips; the first two as for :meth:`forward`, in training.

        Maps are projected a second time here: :meth:`forward` keeps nothing.

        Returns:
            dict[str, Tensor]: ``loss_match``, a scalar, if there is such a loss.
        """
        if self.loss_match is None:
            return {}
        maps = self._project(feats)
        shapes = [maps[i].shape[-2:] for i in self.fused]
        loss = self.loss_match(self.fusion.match, *self._tokens(maps, audio), shapes, data_samples)
        return dict(loss_match=loss)

    def _project(self, feats: Sequence[Tensor]) -> list[Tensor]:
        """f8, f16 and f32 in C channels."""
        return [conv(x) for conv, x in zip(self.input_convs, feats[1:], strict=True)]

    def _tokens(self, maps: Sequence[Tensor], audio: Tensor) -> tuple[Tensor, Tensor]:
        """Visual tokens (M, L, C) of the fused maps, and audio tokens (M, S, Da)."""
        visual = torch.cat([maps[i].flatten(2).transpose(1, 2) for i in self.fused], dim=1)
        return visual, audio.unsqueeze(1) if audio.ndim == 2 else audio
