# SPDX-License-Identifier: Apache-2.0
"""The model, one folder a stage of the paper's Figure 2."""

from .audio_encoders import LogMelEncoder, VGGishEncoder
from .backbones import PVTv2
from .classifiers import (
    CLIPSquareCropClassifier,
    ClosedSetClassifier,
    InstanceTokenClassifier,
    OpenVocabularyClassifier,
)
from .data_preprocessor import AVSegDataPreProcessor
from .decode_heads import AudioMaskDecHead, CATRHead, TPAVIHead
from .layers import AddFusion, AudioMaskDecoder, BiAttention, FusedPixelDecoder
from .losses import AudioVisualMatchLoss, MaskFocalLoss, SoundScoreLoss
from .necks import AVFusionNeck, DilatedContextNeck
from .segmentors import AVEncoderDecoder

__all__ = [
    'AVEncoderDecoder',
    'AVFusionNeck',
    'AVSegDataPreProcessor',
    'AddFusion',
    'AudioMaskDecHead',
    'AudioMaskDecoder',
    'AudioVisualMatchLoss',
    'BiAttention',
    'CATRHead',
    'CLIPSquareCropClassifier',
    'ClosedSetClassifier',
    'OpenVocabularyClassifier',
    'DilatedContextNeck',
    'FusedPixelDecoder',
    'InstanceTokenClassifier',
    'LogMelEncoder',
    'MaskFocalLoss',
    'PVTv2',
    'SoundScoreLoss',
    'TPAVIHead',
    'VGGishEncoder',
]
