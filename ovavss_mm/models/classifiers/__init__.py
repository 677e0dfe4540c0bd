# SPDX-License-Identifier: Apache-2.0
"""Classifiers: from masks to names."""

from .clip_square_crop import CLIPSquareCropClassifier
from .closed_set import ClosedSetClassifier

__all__ = ['CLIPSquareCropClassifier', 'ClosedSetClassifier']
