# SPDX-License-Identifier: Apache-2.0
"""Losses beside those of the hosts."""

from .mask_focal_loss import MaskFocalLoss
from .sound_score_loss import SoundScoreLoss

__all__ = ['MaskFocalLoss', 'SoundScoreLoss']
