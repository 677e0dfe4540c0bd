# SPDX-License-Identifier: Apache-2.0
"""Backbones that no host has, or that need a change."""

from .clip_resnet import CLIPResNet
from .pvt_v2 import PVTv2

__all__ = ['CLIPResNet', 'PVTv2']
