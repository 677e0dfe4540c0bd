# SPDX-License-Identifier: Apache-2.0
"""Several audio tokens a frame, of the map of an audio encoder: one embedding cannot hold two sources apart."""

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class TimeTokens(BaseModule):
    """A token for each step of the map in time, with its bands joined: sources seldom begin and end together.

    Args:
        in_channels (int): c of the map.
        bands (int): f of the map, its positions in frequency.
        out_channels (int): Da. Defaults to 128.
    """

    def __init__(self, in_channels: int, bands: int, out_channels: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Linear(in_channels * bands, out_channels)

    def forward(self, audio_map: Tensor) -> Tensor:
        """Tokens (M, t, Da) of a map (M, c, t, f)."""
        return self.embedding(audio_map.transpose(1, 2).flatten(2))  # (M, t, c * f)


@MODELS.register_module()
class ClusterTokens(BaseModule):
    """A token for each of some learned clusters: the mean of the positions of the map that belong to it.

    Each position in time and frequency belongs to the clusters by a softmax over them, so they compete for it.

    Args:
        in_channels (int): c of the map.
        bands (int): f of the map, its positions in frequency.
        out_channels (int): Da. Defaults to 128.
        num_clusters (int): S. Defaults to 4.

    Raises:
        ValueError: ``num_clusters`` is under 1.
    """

    def __init__(self, in_channels: int, bands: int, out_channels: int = 128, num_clusters: int = 4) -> None:
        super().__init__()
        if num_clusters < 1:
            raise ValueError(f'num_clusters must be at least 1, got {num_clusters}')
        self.value = nn.Linear(in_channels, out_channels)
        self.band_embed = nn.Parameter(torch.randn(bands, out_channels) * 0.5)
        self.assign = nn.Linear(out_channels, num_clusters)

    def forward(self, audio_map: Tensor) -> Tensor:
        """Tokens (M, S, Da) of a map (M, c, t, f)."""
        x = self.value(audio_map.permute(0, 2, 3, 1)) + self.band_embed  # (M, t, f, Da)
        x = x.flatten(1, 2)
        shares = self.assign(x).softmax(-1)  # (M, t * f, S)
        return shares.mT @ x / (shares.sum(1)[..., None] + 1e-3)
