# SPDX-License-Identifier: Apache-2.0
"""Scores of single frames, which gate the sound scores of queries: a query of a clip may be silent in some frames."""

from typing import Any

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


class FrameScore(BaseModule):
    """Base of scores of frames: subclasses override :meth:`forward` and :meth:`targets`.

    Args:
        feat_channels (int): C of queries and audio tokens. Defaults to 256.
        loss_weight (float): of the binary cross-entropy. Defaults to 2.

    Raises:
        ValueError: a negative weight.
    """

    loss_name = ''

    def __init__(self, feat_channels: int = 256, loss_weight: float = 2.0) -> None:
        super().__init__()
        if loss_weight < 0:
            raise ValueError(f'loss_weight must not be negative, got {loss_weight}')
        self.loss_weight, self.scale = loss_weight, feat_channels**-0.5
        self.norm = nn.LayerNorm(feat_channels)
        self.audio = nn.Linear(feat_channels, feat_channels)

    def forward(self, query: Tensor, audio: Tensor) -> Tensor:
        """Logits of the frames.

        Args:
            query (Tensor): (layers, B, Q, C), normalised queries.
            audio (Tensor): (B, T, S, C), the decoder's audio tokens before they attend to each other.

        Returns:
            Tensor: (layers, B, Q, T), or (layers, B, 1, T) for all queries.
        """
        raise NotImplementedError

    def targets(self, sounds: Tensor, matches: list[tuple[Tensor, Tensor]], logits: Tensor) -> tuple[Tensor, Tensor]:
        """What the logits should be, and their weights, each of their shape.

        Args:
            sounds (Tensor): (K, F) bool, in which of the annotated frames each target has a pixel.
            matches (list[tuple[Tensor, Tensor]]): per layer, query indices and target indices.
            logits (Tensor): (layers, Q or 1, F).
        """
        raise NotImplementedError

    def loss(self, logits: Tensor, sounds: Tensor, matches: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Weighted mean of the binary cross-entropy in a clip's annotated frames, (layers,); see :meth:`targets`."""
        wanted, weights = self.targets(sounds, matches, logits)
        loss = F.binary_cross_entropy_with_logits(logits, wanted, weights, reduction='none')
        return self.loss_weight * loss.sum((1, 2)) / weights.sum((1, 2)).clamp(min=1e-6)  # 0 of nothing


@MODELS.register_module()
class FrameSoundScore(FrameScore):
    """Whether each query sounds in each frame: how well it matches one of the frame's audio tokens.

    Trained on silence per frame and query: a query's target is silent in the frames in which it has no pixel.

    Args:
        feat_channels (int): C. Defaults to 256.
        no_object_weight (float): of queries without a target, beside 1 for those with one. Defaults to 0.1.
        **kwargs: see :class:`FrameScore`.
    """

    loss_name = 'loss_frame_sound'

    def __init__(self, feat_channels: int = 256, no_object_weight: float = 0.1, **kwargs: Any) -> None:
        super().__init__(feat_channels, **kwargs)
        if no_object_weight < 0:
            raise ValueError(f'no_object_weight must not be negative, got {no_object_weight}')
        self.no_object_weight = no_object_weight
        self.query = nn.Sequential(
            nn.Linear(feat_channels, feat_channels), nn.ReLU(), nn.Linear(feat_channels, feat_channels)
        )
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, query: Tensor, audio: Tensor) -> Tensor:
        """Logits (layers, B, Q, T), see the base class."""
        audio = self.audio(self.norm(audio))
        logits = torch.einsum('lbqc,btsc->lbqts', self.query(query) * self.scale, audio)
        return logits.logsumexp(-1) + self.bias

    def targets(self, sounds: Tensor, matches: list[tuple[Tensor, Tensor]], logits: Tensor) -> tuple[Tensor, Tensor]:
        """1 where a query's target sounds, see the base class."""
        wanted, weights = torch.zeros_like(logits), torch.full_like(logits, self.no_object_weight)
        for layer, (queries, index) in enumerate(matches):
            wanted[layer, queries] = sounds[index].to(logits)
            weights[layer, queries] = 1.0
        return wanted, weights


@MODELS.register_module()
class PresenceScore(FrameScore):
    """Whether any visible object sounds in each frame; SAM 3 so tells whether there is anything before it looks where.

    The frame's audio attends to the queries, and a small network decides over both.
    """

    loss_name = 'loss_presence'

    def __init__(self, feat_channels: int = 256, **kwargs: Any) -> None:
        super().__init__(feat_channels, **kwargs)
        self.query = nn.Linear(feat_channels, feat_channels)
        self.out = nn.Sequential(nn.Linear(feat_channels, feat_channels), nn.ReLU(), nn.Linear(feat_channels, 1))

    def forward(self, query: Tensor, audio: Tensor) -> Tensor:
        """Logits (layers, B, 1, T), see the base class."""
        audio = self.audio(self.norm(audio)).mean(2)  # (B, T, C)
        weights = torch.einsum('lbqc,btc->lbtq', self.query(query) * self.scale, audio)
        return self.out(weights.softmax(-1) @ query + audio).mT  # (layers, B, T, 1) -> (layers, B, 1, T)

    def targets(self, sounds: Tensor, matches: list[tuple[Tensor, Tensor]], logits: Tensor) -> tuple[Tensor, Tensor]:
        """1 where some target sounds, see the base class."""
        return sounds.any(0).to(logits).expand_as(logits), torch.ones_like(logits)
