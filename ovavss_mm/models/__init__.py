# SPDX-License-Identifier: Apache-2.0
"""The model, one folder a stage of the paper's Figure 2."""

from .audio_encoders import LogMelEncoder, VGGishEncoder
from .backbones import CLIPResNet, PVTv2
from .classifiers import (
    CLIPSquareCropClassifier,
    ClosedSetClassifier,
    ExportedCropClassifier,
    InstanceTokenClassifier,
    MaskPoolingClassifier,
    OpenVocabularyClassifier,
    SoundNameScorer,
    TextSpaceClassifier,
)
from .data_preprocessor import AVSegDataPreProcessor
from .decode_heads import AudioMaskDecHead, CATRHead, FrameQueryHead, TPAVIHead
from .foundation import BoxMasker, SoundNamer, TextBoxProposer
from .layers import AddFusion, AudioMaskDecoder, BiAttention, FusedPixelDecoder
from .losses import AudioVisualMatchLoss, JointScoreCost, MaskFocalLoss, SoundScoreLoss
from .necks import AVFusionNeck, DilatedContextNeck
from .refiners import SAMMaskRefiner
from .segmentors import AVEncoderDecoder, ExportedSegmentor, PromptedSAM, Sam4AVS
from .trackers import CosineTracker, MomentumTracker, TopKTracker

__all__ = [
    'AVEncoderDecoder',
    'AVFusionNeck',
    'AVSegDataPreProcessor',
    'AddFusion',
    'AudioMaskDecHead',
    'AudioMaskDecoder',
    'AudioVisualMatchLoss',
    'BiAttention',
    'BoxMasker',
    'CATRHead',
    'CLIPResNet',
    'CLIPSquareCropClassifier',
    'ClosedSetClassifier',
    'CosineTracker',
    'OpenVocabularyClassifier',
    'DilatedContextNeck',
    'ExportedCropClassifier',
    'ExportedSegmentor',
    'FrameQueryHead',
    'FusedPixelDecoder',
    'InstanceTokenClassifier',
    'JointScoreCost',
    'LogMelEncoder',
    'MaskFocalLoss',
    'MaskPoolingClassifier',
    'MomentumTracker',
    'PVTv2',
    'PromptedSAM',
    'SAMMaskRefiner',
    'Sam4AVS',
    'SoundNameScorer',
    'SoundNamer',
    'SoundScoreLoss',
    'TPAVIHead',
    'TextBoxProposer',
    'TextSpaceClassifier',
    'TopKTracker',
    'VGGishEncoder',
]
