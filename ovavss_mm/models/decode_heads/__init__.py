# SPDX-License-Identifier: Apache-2.0
"""Decode heads: from fused maps and sound to sounding queries."""

from .audio_mask_dec_head import AudioMaskDecHead, QueryPredictions

__all__ = ['AudioMaskDecHead', 'QueryPredictions']
