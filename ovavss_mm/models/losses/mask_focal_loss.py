# SPDX-License-Identifier: Apache-2.0
"""Binary focal loss on mask points (paper equation 7)."""

from mmseg.registry import MODELS
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss


@MODELS.register_module()
class MaskFocalLoss(nn.Module):
    """Focal loss of point logits; torchvision's, as mmseg's and mmdet's need a compiled kernel on GPUs.

    Args:
        alpha (float): weight of positive points in [0, 1]; -1 for none. Defaults to 0.25.
        gamma (float): focusing exponent, 0 is binary cross-entropy. Defaults to 2.0.
        loss_weight (float): weight in the sum of losses. Defaults to 5.0.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, loss_weight: float = 5.0) -> None:
        super().__init__()
        if not (alpha == -1 or 0 <= alpha <= 1) or gamma < 0 or loss_weight < 0:
            raise ValueError(
                'alpha must be in [0, 1] or -1, gamma and loss_weight not negative, '
                f'got {alpha}, {gamma}, {loss_weight}'
            )
        self.alpha, self.gamma, self.loss_weight = alpha, gamma, loss_weight

    def forward(self, pred: Tensor, target: Tensor, avg_factor: float) -> Tensor:
        """Sum over points divided by ``avg_factor``.

        Args:
            pred (Tensor): logits of any shape.
            target (Tensor): of the same shape, in [0, 1].
            avg_factor (float): divisor.

        Returns:
            Tensor: scalar.
        """
        return self.loss_weight * sigmoid_focal_loss(pred, target, self.alpha, self.gamma, 'sum') / avg_factor
