# SPDX-License-Identifier: Apache-2.0
"""Decode heads: from fused maps and sound to sounding queries, or to classes of pixels."""

from .audio_mask_dec_head import AudioMaskDecHead, QueryPredictions
from .catr_head import CATRHead
from .frame_query_head import FrameQueryHead
from .tpavi_head import TPAVIHead

__all__ = ['AudioMaskDecHead', 'CATRHead', 'FrameQueryHead', 'QueryPredictions', 'TPAVIHead']
