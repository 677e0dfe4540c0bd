# SPDX-License-Identifier: Apache-2.0
"""Fusion by gates: each position opens to the sounds that it matches."""

from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from .bi_attention import BiAttention


@MODELS.register_module()
class GatedFusion(BiAttention):
    """Visual gates between positions and audio tokens, in place of the two-way attention.

    The gate of a position and a token is the sigmoid of their match: it may be closed to all tokens, where a softmax
    always gives weights that sum to 1. Through it the position gets the token's value, and the token the mean value of
    the positions that are open to it; all else is as in :class:`BiAttention`. So silent positions are told apart before
    the pixel decoder, and :class:`~ovavss_mm.models.losses.SoundMatchLoss` can say which they are.

    Args:
        num_heads (int): gates of a position and a token. Defaults to 8.
        **kwargs: see :class:`BiAttention`; ``dropout`` is that of gates.
    """

    def __init__(self, num_heads: int = 8, **kwargs: Any) -> None:
        super().__init__(num_heads=num_heads, **kwargs)
        self.bias = nn.Parameter(torch.zeros(num_heads))

    def forward(self, visual: Tensor, audio: Tensor, num_frames: int = 1) -> tuple[Tensor, Tensor]:
        """Fuse both sides of each frame: (M, L, C) and (M, S, Da), see the base class."""
        visual, audio = self.norm_v(visual), self.norm_a(audio)
        query = self._heads(self.query_v(visual)) * self.scale  # (M, h, L, d)
        logits = query @ self._heads(self.key_a(audio)).mT + self.bias[:, None, None]  # (M, h, L, S)
        gates = F.dropout(logits.sigmoid(), self.dropout, self.training)
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
