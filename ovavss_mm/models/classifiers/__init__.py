# SPDX-License-Identifier: Apache-2.0
"""Classifiers: from masks to names."""

from .clip_square_crop import CLIPSquareCropClassifier

__all__ = ['CLIPSquareCropClassifier']
