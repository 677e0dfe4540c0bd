# SPDX-License-Identifier: Apache-2.0
"""Linking by a memory that follows the embeddings slowly (OV2Seg)."""

from mmseg.registry import MODELS
from torch import Tensor

from .cosine_tracker import CosineTracker, assign, cosine_cost


@MODELS.register_module()
class MomentumTracker(CosineTracker):
    """Remembers one embedding a slot: ``momentum`` of the newest one and the rest of what it was.

    The sum is not normalised: of two embeddings the longer weighs more in it.

    Args:
        momentum (float): share of the newest frame, above 0 and up to 1; 1 compares with the frame before alone.
            Defaults to 0.7.

    Raises:
        ValueError: a momentum out of range.
    """

    def __init__(self, momentum: float = 0.7) -> None:
        if isinstance(momentum, bool) or not isinstance(momentum, (int, float)) or not 0 < momentum <= 1:
            raise ValueError(f'momentum must be above 0 and at most 1, got {momentum!r}')
        super().__init__()
        self.momentum = momentum

    def start(self, embeds: Tensor) -> Tensor:
        """The embeddings (S, C) themselves."""
        return embeds

    def match(self, memory: Tensor, embeds: Tensor) -> Tensor:
        """The query of each slot, see the base class."""
        return assign(cosine_cost(memory, embeds))[0]

    def remember(self, memory: Tensor, aligned: Tensor) -> Tensor:
        """The mixed memory (S, C)."""
        return self.momentum * aligned + (1 - self.momentum) * memory
