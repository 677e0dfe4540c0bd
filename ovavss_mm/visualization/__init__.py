# SPDX-License-Identifier: Apache-2.0
"""Pictures of clips, labels and predictions."""

from .av_seg_visualizer import AVSegVisualizer

__all__ = ['AVSegVisualizer']
