# SPDX-License-Identifier: Apache-2.0
"""Necks: early fusion of sound and sight."""

from .av_fusion_neck import AVFusionNeck
from .dilated_context_neck import DilatedContextNeck

__all__ = ['AVFusionNeck', 'DilatedContextNeck']
