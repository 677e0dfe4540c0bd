# SPDX-License-Identifier: Apache-2.0
"""Metrics of open-vocabulary audio-visual semantic segmentation."""

from .binary_metric import AVSBinaryMetric
from .ov_iou_metric import OVIoUMetric

__all__ = ['AVSBinaryMetric', 'OVIoUMetric']
