# SPDX-License-Identifier: Apache-2.0
"""Hooks of the runner."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .bad_clips_hook import BadClipsHook
from .class_count_hook import ClassCountHook
from .contact_sheet_hook import ContactSheetHook
from .main_process_logger_hook import MainProcessLoggerHook
from .nonfinite_hook import NonFiniteLossError, NonFiniteLossHook
from .strict_checkpoint_hook import StrictCheckpointHook
from .visualization_hook import AVSegVisualizationHook

__all__ = [
    'AVSegVisualizationHook',
    'AtomicCheckpointHook',
    'BadClipsHook',
    'ClassCountHook',
    'ContactSheetHook',
    'MainProcessLoggerHook',
    'NonFiniteLossError',
    'NonFiniteLossHook',
    'StrictCheckpointHook',
]
