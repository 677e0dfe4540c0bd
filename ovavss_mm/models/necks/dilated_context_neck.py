# SPDX-License-Identifier: Apache-2.0
"""Dilated convolutions that widen the receptive field at each level, as in TPAVI and CATR (paper Table 2)."""

from collections.abc import Sequence

from mmengine.model import BaseModule, ModuleList
from mmseg.models.decode_heads.aspp_head import ASPPModule
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class DilatedContextNeck(BaseModule):
    """Brings each map to C channels by parallel 3 x 3 convolutions of several dilations, summed; audio passes.

    Args:
        in_channels (Sequence[int]): channels of f4, f8, f16, f32.
        out_channels (int): C. Defaults to 256.
        dilations (Sequence[int]): of the convolutions, greater than 1. Defaults to (3, 6, 12, 18).
        skip (Sequence[int]): levels, from 0, whose convolutions exist but are not run, as their output would not be
            used: such a map passes as it is. Defaults to ().

    Raises:
        ValueError: no dilation, one under 2, or a level to skip that is not there.
    """

    needs_audio = False

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        dilations: Sequence[int] = (3, 6, 12, 18),
        skip: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if not dilations or min(dilations) < 2:
            raise ValueError(f'dilations must be at least 2, got {dilations}')
        if not set(skip) <= set(range(len(in_channels))):
            raise ValueError(f'skip must be some of the levels 0 to {len(in_channels) - 1}, got {skip}')
        self.skip = frozenset(skip)
        plain = dict(conv_cfg=None, norm_cfg=None, act_cfg=None)
        self.convs = ModuleList([ASPPModule(dilations, c, out_channels, **plain) for c in in_channels])

    def init_weights(self) -> None:
        """Draw weights from N(0, 0.01); biases as PyTorch draws them."""
        for level in self.convs:
            for conv in level:
                conv.conv.reset_parameters()
                nn.init.normal_(conv.conv.weight, std=0.01)

    def forward(self, feats: Sequence[Tensor], audio: Tensor, num_frames: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """Compute the context of M frames.

        Args:
            feats (Sequence[Tensor]): f4, f8, f16, f32, each (M, c, h, w).
            audio (Tensor): of any shape; passes unchanged.
            num_frames (int): not used; frames do not see each other here.

        Returns:
            tuple: maps (M, C, h, w), and the audio.
        """
        maps = [
            x if i in self.skip else sum(conv(x)) for i, (conv, x) in enumerate(zip(self.convs, feats, strict=True))
        ]
        return tuple(maps), audio
