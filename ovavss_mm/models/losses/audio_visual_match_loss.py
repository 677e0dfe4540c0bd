# SPDX-License-Identifier: Apache-2.0
"""Audio-visual matching loss between the predicted masks and the sound (AVM of TPAVI, paper Table 2)."""

from collections.abc import Sequence
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

REDUCTIONS = ('mean', 'sum')


@MODELS.register_module()
class AudioVisualMatchLoss(nn.Module):
    """``KL(softmax(A) || softmax(v))`` of audio A and the mean v of a map in the predicted foreground.

    The loss is the mean over levels, v the mean over all positions of a map, masked ones as zeros. With K classes the
    mask is where background is not the best class, and no gradient goes through it; with one, it is the sigmoid of the
    pooled logits, and gradients do.

    Args:
        loss_weight (float): weight in the sum of losses. Defaults to 0.5.
        reduction (str): over frames, 'mean' (published for several classes) or 'sum' (published for one). Defaults to
            'mean'.

    Raises:
        ValueError: another reduction, or a negative weight.
    """

    def __init__(self, loss_weight: float = 0.5, reduction: str = 'mean') -> None:
        super().__init__()
        if reduction not in REDUCTIONS or loss_weight < 0:
            raise ValueError(
                f'reduction must be one of {REDUCTIONS}, loss_weight not negative, got {reduction!r} and {loss_weight}'
            )
        self.loss_weight, self.reduction = loss_weight, reduction

    def forward(self, logits: Tensor, maps: Sequence[Tensor], audio: Sequence[Tensor]) -> Tensor:
        """Loss of M frames.

        Args:
            logits (Tensor): (M, K, H, W).
            maps (Sequence[Tensor]): (M, C, h, w) of each level.
            audio (Sequence[Tensor]): (M, C) of each level.

        Returns:
            Tensor: scalar, 0 without frames.
        """
        soft = logits.shape[1] == 1
        predicted = logits if soft else (logits.argmax(1, keepdim=True) != 0).to(logits.dtype)  # (M, 1, H, W)
        total: Any = 0
        for level, sound in zip(maps, audio, strict=True):
            mask = F.adaptive_avg_pool2d(predicted, (level.shape[-2], level.shape[-1]))  # (M, 1, h, w)
            seen = (level * (mask.sigmoid() if soft else mask)).mean((2, 3))  # (M, C)
            total = total + F.kl_div(seen.log_softmax(-1), sound.log_softmax(-1), reduction='sum', log_target=True)
        frames = max(len(logits), 1) if self.reduction == 'mean' else 1
        return self.loss_weight * total / (len(maps) * frames)
