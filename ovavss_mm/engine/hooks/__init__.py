# SPDX-License-Identifier: Apache-2.0
"""Hooks of the runner."""

from .bad_clips_hook import BadClipsHook
from .contact_sheet_hook import ContactSheetHook
from .nonfinite_hook import NonFiniteLossError, NonFiniteLossHook
from .strict_checkpoint_hook import StrictCheckpointHook
from .visualization_hook import AVSegVisualizationHook
from .whole_checkpoint_hook import WholeCheckpointHook

__all__ = [
    'AVSegVisualizationHook',
    'BadClipsHook',
    'ContactSheetHook',
    'NonFiniteLossError',
    'NonFiniteLossHook',
    'StrictCheckpointHook',
    'WholeCheckpointHook',
]
