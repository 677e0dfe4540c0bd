# SPDX-License-Identifier: Apache-2.0
"""Metrics of open-vocabulary audio-visual semantic segmentation."""

from .ov_iou_metric import OVIoUMetric

__all__ = ['OVIoUMetric']
