# SPDX-License-Identifier: Apache-2.0
"""Transforms of clips, in the order in which pipelines use them."""

from .audio import LoadClipAudio, LoadClipAudioFeatures
from .augmentation import AffineClip, CropClip
from .clap_log_mel import CLAPLogMel
from .formatting import PackAVSegInputs
from .front_ends import SoundFrontEnd, VGGishLogMel
from .geometry import FlipClip, ResizeClip
from .loading import LoadClipFrames, LoadClipLabels
from .sampling import SampleClipFrames
from .sound_swaps import MixClipAudio, SwapClipAudio

__all__ = ['FlipClip', 'LoadClipAudio', 'LoadClipAudioFeatures', 'LoadClipFrames', 'LoadClipLabels', 'PackAVSegInputs']
__all__ += ['ResizeClip', 'SampleClipFrames', 'SoundFrontEnd', 'SwapClipAudio', 'VGGishLogMel']
__all__ += ['AffineClip', 'CLAPLogMel', 'CropClip', 'MixClipAudio']
