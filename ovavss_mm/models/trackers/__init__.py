# SPDX-License-Identifier: Apache-2.0
"""Trackers: queries of single frames get one order over a clip, objects of windows one id over a video."""

from .cosine_tracker import CosineTracker
from .momentum_tracker import MomentumTracker
from .top_k_tracker import TopKTracker
from .window_linker import WindowLinker, linker_of

__all__ = ['CosineTracker', 'MomentumTracker', 'TopKTracker', 'WindowLinker', 'linker_of']
