# SPDX-License-Identifier: Apache-2.0
"""Classifiers: from masks to class names (paper section 3.4)."""

from .clip_square_crop import CLIPSquareCropClassifier
from .closed_set import ClosedSetClassifier
from .mask_pooling import MaskPoolingClassifier
from .open_vocabulary import OpenVocabularyClassifier
from .text_space import TextSpaceClassifier

__all__ = [
    'CLIPSquareCropClassifier',
    'ClosedSetClassifier',
    'MaskPoolingClassifier',
    'OpenVocabularyClassifier',
    'TextSpaceClassifier',
]
