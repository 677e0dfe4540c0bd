# SPDX-License-Identifier: Apache-2.0
"""The model, one folder a stage of the paper's Figure 2."""

from .audio_encoders import LogMelEncoder, VGGishEncoder
from .classifiers import CLIPSquareCropClassifier, ClosedSetClassifier, OpenVocabularyClassifier
from .data_preprocessor import AVSegDataPreProcessor
from .decode_heads import AudioMaskDecHead
from .layers import AddFusion, AudioMaskDecoder, BiAttention, FusedPixelDecoder
from .losses import MaskFocalLoss, SoundScoreLoss
from .necks import AVFusionNeck
from .segmentors import AVEncoderDecoder

__all__ = [
    'AVEncoderDecoder',
    'AVFusionNeck',
    'AVSegDataPreProcessor',
    'AddFusion',
    'AudioMaskDecHead',
    'AudioMaskDecoder',
    'BiAttention',
    'CLIPSquareCropClassifier',
    'ClosedSetClassifier',
    'OpenVocabularyClassifier',
    'FusedPixelDecoder',
    'LogMelEncoder',
    'MaskFocalLoss',
    'SoundScoreLoss',
    'VGGishEncoder',
]
