# SPDX-License-Identifier: Apache-2.0
"""Loss of the sound scores (paper section 3.5; equations 3 and 7)."""

from mmdet.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class SoundScoreLoss(CrossEntropyLoss):
    """Weighted cross-entropy over (sounding, no object), class-agnostic: names play no part in training.

    Args:
        no_object_weight (float): weight of queries without a target beside 1 for those with one. Defaults to 0.1.
        loss_weight (float): weight in the sum of losses. Defaults to 2.0.
        num_classes (int): 1; of a closed-set head, its N names, which take the place of 'sounding'. Defaults to 1.

    Raises:
        ValueError: a negative weight, or ``num_classes`` under 1.
    """

    def __init__(self, no_object_weight: float = 0.1, loss_weight: float = 2.0, num_classes: int = 1) -> None:
        if no_object_weight < 0 or loss_weight < 0 or num_classes < 1:
            raise ValueError(
                'weights must not be negative, num_classes at least 1, '
                f'got {no_object_weight}, {loss_weight} and {num_classes}'
            )
        weights = [1.0] * num_classes + [no_object_weight]
        super().__init__(class_weight=weights, loss_weight=loss_weight)

    def forward(self, sound_logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of one clip and one layer.

        Args:
            sound_logits (Tensor): (Q, num_classes + 1) logits of 'sounding', or the names, and 'no object'.
            labels (Tensor): (Q,) int64, the target's class (0 if there is one class), or ``num_classes`` without a
                target.

        Returns:
            Tensor: scalar, the weighted mean over queries.
        """
        # made there: mmdet's own forward pass sends them to a GPU each time, and waits
        weights = sound_logits.new_ones(sound_logits.shape[-1])
        weights[-1] = self.class_weight[-1]
        avg_factor = weights[labels].sum()
        return self.loss_weight * self.cls_criterion(sound_logits, labels, class_weight=weights, avg_factor=avg_factor)
