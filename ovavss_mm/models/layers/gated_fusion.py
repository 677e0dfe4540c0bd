# SPDX-License-Identifier: Apache-2.0
"""Fusion by gates: each position opens to the sounds that it matches."""

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class GatedFusion(BaseModule):
    """Visual gates between positions and audio tokens, in place of the two-way attention of :class:`BiAttention`.

    The gate of a position and a token is the sigmoid of their match: it may be closed to all tokens, where a softmax
    always gives weights that sum to 1. Through it the position gets the token's value, and the token the mean value of
    the positions that are open to it. Both are added to the normalised input, with a layer scale. Positions that are
    silent are so told apart before the pixel decoder, and :class:`SoundMatchLoss` can say which they are.

    Args:
        visual_channels (int): C. Defaults to 256.
        audio_channels (int): Da. Defaults to 128.
        embed_dims (int): size in which both sides meet, a multiple of ``num_heads``. Defaults to 1024.
        num_heads (int): gates of a position and a token. Defaults to 8.
        dropout (float): of gates, in training. Defaults to 0.1.
        layer_scale (float): initial weight of each side's update, per channel. Defaults to 1 / 6.

    Raises:
        ValueError: ``embed_dims`` is no multiple of ``num_heads``, or ``dropout`` is outside [0, 1).
    """

    def __init__(
        self,
        visual_channels: int = 256,
        audio_channels: int = 128,
        embed_dims: int = 1024,
        num_heads: int = 8,
        dropout: float = 0.1,
        layer_scale: float = 1 / 6,
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(f'embed_dims must be a multiple of num_heads, got {embed_dims} and {num_heads}')
        if not 0 <= dropout < 1:
            raise ValueError(f'dropout must be in [0, 1), got {dropout}')
        self.num_heads = num_heads
        self.dropout = nn.Dropout(dropout)
        self.scale = (embed_dims // num_heads) ** -0.5
        self.norm_v = nn.LayerNorm(visual_channels)
        self.norm_a = nn.LayerNorm(audio_channels)
        self.query_v = nn.Linear(visual_channels, embed_dims)
        self.key_a = nn.Linear(audio_channels, embed_dims)
        self.value_v = nn.Linear(visual_channels, embed_dims)
        self.value_a = nn.Linear(audio_channels, embed_dims)
        self.out_v = nn.Linear(embed_dims, visual_channels)
        self.out_a = nn.Linear(embed_dims, audio_channels)
        self.bias = nn.Parameter(torch.zeros(num_heads))
        self.gamma_v = nn.Parameter(torch.full((visual_channels,), layer_scale))
        self.gamma_a = nn.Parameter(torch.full((audio_channels,), layer_scale))

    def init_weights(self) -> None:
        """Xavier weights and zero biases in all projections."""
        for module in self.children():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def _heads(self, x: Tensor) -> Tensor:
        """(M, L, E) -> (M, h, L, d)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, visual: Tensor, audio: Tensor, num_frames: int = 1) -> tuple[Tensor, Tensor]:
        """Fuse both sides of each frame.

        Args:
            visual (Tensor): (M, L, C) visual tokens of M frames.
            audio (Tensor): (M, S, Da) audio tokens of the same frames.
            num_frames (int): not used: frames are fused one by one. Defaults to 1.

        Returns:
            tuple: both, fused, in their shapes.
        """
        visual, audio = self.norm_v(visual), self.norm_a(audio)
        query = self._heads(self.query_v(visual)) * self.scale  # (M, h, L, d)
        logits = query @ self._heads(self.key_a(audio)).mT + self.bias[:, None, None]  # (M, h, L, S)
        gates = self.dropout(logits.sigmoid())
        update_v = (gates @ self._heads(self.value_a(audio))).transpose(1, 2)  # (M, L, h, d)
        open_to = gates.mT / (gates.sum(2)[..., None] + 1)  # (M, h, S, L); a token that no position is open to gets 0
        update_a = (open_to @ self._heads(self.value_v(visual))).transpose(1, 2)  # (M, S, h, d)
        visual = visual + self.gamma_v * self.out_v(update_v.flatten(2))
        return visual, audio + self.gamma_a * self.out_a(update_a.flatten(2))

    def match(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Match of positions with the sounds of any frames, also of other clips.

        Args:
            visual (Tensor): (M, L, C) visual tokens of M frames, before fusion.
            audio (Tensor): (A, S, Da) audio tokens of A frames.

        Returns:
            Tensor: logits (M, A, L): all heads together, of whichever token matches.
        """
        query = self.query_v(self.norm_v(visual)) * (self.scale * self.num_heads**-0.5)
        logits = torch.einsum('mle,ase->mals', query, self.key_a(self.norm_a(audio)))
        return logits.logsumexp(-1) + self.bias.mean()
