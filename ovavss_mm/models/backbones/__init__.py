# SPDX-License-Identifier: Apache-2.0
"""What backbones of mmseg and mmdet need changed."""

from .pvt_v2 import PVTv2

__all__ = ['PVTv2']
