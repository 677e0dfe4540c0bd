# SPDX-License-Identifier: Apache-2.0
"""Bi-directional attention between visual tokens and audio tokens (paper equations 1 and 2)."""

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class BiAttention(BaseModule):
    """One logit matrix between both sides, read in both directions; residual on the normalised input.

    Args:
        visual_channels (int): C. Defaults to 256.
        audio_channels (int): Da. Defaults to 128.
        embed_dims (int): size in which both sides meet, a multiple of ``num_heads``. Defaults to 1024.
        num_heads (int): attention heads. Defaults to 8.
        dropout (float): on attention weights, in training. Defaults to 0.1.
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
        self.scale = (embed_dims // num_heads) ** -0.5
        self.dropout = dropout
        self.norm_v = nn.LayerNorm(visual_channels)
        self.norm_a = nn.LayerNorm(audio_channels)
        self.query_v = nn.Linear(visual_channels, embed_dims)
        self.key_a = nn.Linear(audio_channels, embed_dims)
        self.value_v = nn.Linear(visual_channels, embed_dims)
        self.value_a = nn.Linear(audio_channels, embed_dims)
        self.out_v = nn.Linear(embed_dims, visual_channels)
        self.out_a = nn.Linear(embed_dims, audio_channels)
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
            audio (Tensor): (M, S, Da) audio tokens of the same frames; S is 1 in OV-AVSS.
            num_frames (int): not used: frames are fused one by one. Defaults to 1.

        Returns:
            tuple: both, fused, in their shapes.
        """
        visual, audio = self.norm_v(visual), self.norm_a(audio)
        updates = self._updates_one_token if audio.shape[1] == 1 else self._updates
        update_v, update_a = updates(visual, audio)
        return visual + self.gamma_v * update_v, audio + self.gamma_a * update_a

    def _updates(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Equations 1 and 2 for any number of audio tokens: (M, L, C) and (M, S, Da)."""
        query = self._heads(self.query_v(visual)) * self.scale  # (M, h, L, d)
        key = self._heads(self.key_a(audio))  # (M, h, S, d)
        logits = query @ key.transpose(-1, -2)  # (M, h, L, S)
        weight = F.dropout(logits.softmax(-1), self.dropout, self.training)
        update_v = (weight @ self._heads(self.value_a(audio))).transpose(1, 2)  # (M, L, h, d)
        weight = logits.softmax(-2).transpose(-1, -2)  # (M, h, S, L)
        weight = F.dropout(weight, self.dropout, self.training)
        update_a = (weight @ self._heads(self.value_v(visual))).transpose(1, 2)  # (M, S, h, d)
        return self.out_v(update_v.flatten(2)), self.out_a(update_a.flatten(2))

    def _updates_one_token(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """The same for S = 1, without a token of E channels a position: (M, L or 1, C) and (M, 1, Da).

        The softmax over audio is 1. Projections are linear: the key is projected back to C channels, not each
        position to E; and positions are summed before they are projected to values.
        """
        update_v = self._update_visual_one_token(visual.shape[1], audio)
        key = self._heads(self.key_a(audio)).squeeze(2) * self.scale  # (M, h, d)
        weight_q, weight_v = (
            linear.weight.unflatten(0, (self.num_heads, -1))  # (h, d, C)
            for linear in (self.query_v, self.value_v)
        )
        bias_q, bias_v = (
            linear.bias.unflatten(0, (self.num_heads, -1))  # (h, d)
            for linear in (self.query_v, self.value_v)
        )
        key_c = torch.einsum('mhd,hdc->mhc', key, weight_q)
        logits = key_c @ visual.transpose(1, 2) + (key * bias_q).sum(-1, keepdim=True)  # (M, h, L)
        weight = F.dropout(logits.softmax(-1), self.dropout, self.training)
        value = torch.einsum('mhc,hdc->mhd', weight @ visual, weight_v)
        value = value + weight.sum(-1, keepdim=True) * bias_v  # dropped weights do not sum to 1
        return update_v, self.out_a(value.flatten(1)).unsqueeze(1)  # (M, h, d) -> (M, E)

    def _update_visual_one_token(self, positions: int, audio: Tensor) -> Tensor:
        """What dropout leaves of each head is a factor per position: (M, L, C), without dropout (M, 1, C)."""
        value = self._heads(self.value_a(audio))  # (M, h, 1, d)
        if not self.training or self.dropout == 0:
            return self.out_v(value.transpose(1, 2).flatten(2))  # (M, h, 1, d) -> (M, 1, E)
        weight = self.out_v.weight.unflatten(1, (self.num_heads, -1))  # (C, h, d)
        per_head = torch.einsum('mhsd,chd->mhc', value, weight)
        kept = F.dropout(value.new_ones(len(value), self.num_heads, positions), self.dropout)
        return kept.transpose(1, 2) @ per_head + self.out_v.bias  # (M, h, L) -> (M, L, C)
