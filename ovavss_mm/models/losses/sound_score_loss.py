# SPDX-License-Identifier: Apache-2.0
"""Does a query stand for a sounding object? (paper equation 6)"""

from mmdet.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class SoundScoreLoss(CrossEntropyLoss):
    """Weighted cross-entropy over (sounding, no object), class-agnostic: names play no part in training.

    Args:
        no_object_weight: weight of queries without a target beside 1 for those with one.
        loss_weight: weight in the sum of losses.

    Raises:
        ValueError: a negative weight.
    """

    def __init__(self, no_object_weight: float = 0.1, loss_weight: float = 2.0) -> None:
        if no_object_weight < 0 or loss_weight < 0:
            raise ValueError(
                f'weights must not be negative, got {no_object_weight} and {loss_weight}'
            )
        super().__init__(class_weight=[1.0, no_object_weight], loss_weight=loss_weight)

    def forward(self, sound_logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of one clip and one layer.

        Args:
            sound_logits: (Q, 2) logits of 'sounding' and 'no object'.
            labels: (Q,) int64, 0 where the query has a target, else 1.

        Returns:
            Scalar, the weighted mean over queries.
        """
        avg_factor = sound_logits.new_tensor(self.class_weight)[labels].sum()
        return super().forward(sound_logits, labels, avg_factor=avg_factor)
