# SPDX-License-Identifier: Apache-2.0
"""Classifiers: from masks to class names (paper section 3.4)."""

from .clip_square_crop import CLIPSquareCropClassifier
from .closed_set import ClosedSetClassifier
from .exported import ExportedCropClassifier
from .instance_tokens import InstanceTokenClassifier
from .mask_pooling import MaskPoolingClassifier
from .open_vocabulary import OpenVocabularyClassifier
from .sound_name_scorer import SoundNameScorer
from .text_space import TextSpaceClassifier

__all__ = [
    'CLIPSquareCropClassifier',
    'ClosedSetClassifier',
    'ExportedCropClassifier',
    'InstanceTokenClassifier',
    'MaskPoolingClassifier',
    'OpenVocabularyClassifier',
    'SoundNameScorer',
    'TextSpaceClassifier',
]
