# SPDX-License-Identifier: Apache-2.0
"""Losses that mmseg and mmdet do not have."""

from .audio_visual_match_loss import AudioVisualMatchLoss
from .joint_score_cost import JointScoreCost
from .mask_focal_loss import MaskFocalLoss
from .sound_match_loss import SoundMatchLoss
from .sound_score_loss import SoundScoreLoss

__all__ = ['AudioVisualMatchLoss', 'JointScoreCost', 'MaskFocalLoss', 'SoundMatchLoss', 'SoundScoreLoss']
