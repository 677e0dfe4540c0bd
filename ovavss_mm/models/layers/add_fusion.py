# SPDX-License-Identifier: Apache-2.0
"""Fusion by addition (paper Table 3, 'add')."""

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class AddFusion(BaseModule):
    """Projects a frame's audio to the visual channels and adds it to each of the frame's tokens.

    Args:
        visual_channels (int): C. Defaults to 256.
        audio_channels (int): Da. Defaults to 128.
    """

    def __init__(self, visual_channels: int = 256, audio_channels: int = 128) -> None:
        super().__init__()
        self.proj = nn.Linear(audio_channels, visual_channels)

    def init_weights(self) -> None:
        """Xavier weights and zero biases, as in :class:`BiAttention`."""
        nn.init.xavier_uniform_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, visual: Tensor, audio: Tensor, num_frames: int = 1) -> tuple[Tensor, Tensor]:
        """Add the audio.

        Args:
            visual (Tensor): (M, L, C) visual tokens of M frames.
            audio (Tensor): (M, S, Da) audio tokens of the same frames; the mean of several is added.
            num_frames (int): not used: frames are fused one by one. Defaults to 1.

        Returns:
            tuple: the visual tokens with the audio added, and the audio tokens unchanged.
        """
        return visual + self.proj(audio.mean(1, keepdim=True)), audio
