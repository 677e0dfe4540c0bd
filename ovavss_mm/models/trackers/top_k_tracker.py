# SPDX-License-Identifier: Apache-2.0
"""Linking by the frames of a queue that fit best (CLIP-VIS)."""

from collections import deque

import torch
from mmseg.registry import MODELS
from torch import Tensor

from .cosine_tracker import CosineTracker, assign, cosine_cost


@MODELS.register_module()
class TopKTracker(CosineTracker):
    """Remembers the embeddings of the last frames, of which those that fit a new frame best decide together.

    A frame fits as well as its own assignment to the new one is cheap. Until ``top_k`` frames are in the queue, the one
    that fits best decides alone. Else the costs of the ``top_k`` best are averaged, that at position j of the queue (0
    is the oldest) times j + 1, so that newer frames weigh more.

    Args:
        memory (int): frames in the queue at most. Defaults to 9.
        top_k (int): frames that decide, at most ``memory``. Defaults to 5.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(self, memory: int = 9, top_k: int = 5) -> None:
        if type(memory) is not int or type(top_k) is not int or not 1 <= top_k <= memory:
            raise ValueError(f'top_k must be a number from 1 to memory, got top_k={top_k!r} and memory={memory!r}')
        super().__init__()
        self.memory, self.top_k = memory, top_k

    def start(self, embeds: Tensor) -> deque[Tensor]:
        """A queue with the embeddings (S, C)."""
        return deque([embeds], maxlen=self.memory)

    def match(self, memory: deque[Tensor], embeds: Tensor) -> Tensor:
        """The query of each slot, see the base class."""
        costs = [cosine_cost(slots, embeds) for slots in memory]
        found = [assign(cost) for cost in costs]
        order = sorted(range(len(memory)), key=lambda j: found[j][1])
        if len(memory) < self.top_k:
            return found[order[0]][0]
        return assign(torch.stack([(j + 1) * costs[j] for j in order[: self.top_k]]).mean(0))[0]

    def remember(self, memory: deque[Tensor], aligned: Tensor) -> deque[Tensor]:
        """The queue with the newest frame, unmixed, and without the oldest one where it is full."""
        memory.append(aligned)
        return memory
