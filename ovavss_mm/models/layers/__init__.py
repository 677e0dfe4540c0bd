# SPDX-License-Identifier: Apache-2.0
"""Building blocks of necks, heads and classifiers."""

from .add_fusion import AddFusion
from .audio_mask_decoder import AudioMaskDecoder, AudioMaskDecoderLayer
from .audio_tokens import ClusterTokens, TimeTokens
from .bi_attention import BiAttention
from .frame_scores import FrameSoundScore, PresenceScore
from .frozen import FrozenModule
from .fused_pixel_decoder import FusedPixelDecoder
from .gated_fusion import GatedFusion

__all__ = ['AddFusion', 'AudioMaskDecoder', 'AudioMaskDecoderLayer', 'BiAttention', 'FrozenModule', 'FusedPixelDecoder']
__all__ += ['ClusterTokens', 'FrameSoundScore', 'GatedFusion', 'PresenceScore', 'TimeTokens']
