# SPDX-License-Identifier: Apache-2.0
"""Building blocks of necks, heads and classifiers."""

from .add_fusion import AddFusion
from .audio_mask_decoder import AudioMaskDecoder, AudioMaskDecoderLayer
from .bi_attention import BiAttention
from .frozen import FrozenModule
from .fused_pixel_decoder import FusedPixelDecoder

__all__ = ['AddFusion', 'AudioMaskDecoder', 'AudioMaskDecoderLayer', 'BiAttention', 'FrozenModule', 'FusedPixelDecoder']
