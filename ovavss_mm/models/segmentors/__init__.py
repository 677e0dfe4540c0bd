# SPDX-License-Identifier: Apache-2.0
"""Segmentors: the whole model."""

from .av_encoder_decoder import AVEncoderDecoder
from .clip_segmentor import ClipSegmentor, Found
from .exported_segmentor import ExportedSegmentor
from .prompted_sam import PromptedSAM
from .sam4avs import Sam4AVS

__all__ = ['AVEncoderDecoder', 'ClipSegmentor', 'ExportedSegmentor', 'Found', 'PromptedSAM', 'Sam4AVS']
