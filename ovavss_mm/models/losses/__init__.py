# SPDX-License-Identifier: Apache-2.0
"""Losses that mmseg and mmdet do not have."""

from .mask_focal_loss import MaskFocalLoss
from .sound_score_loss import SoundScoreLoss

__all__ = ['MaskFocalLoss', 'SoundScoreLoss']
