# SPDX-License-Identifier: Apache-2.0
"""What is attached to the training and test loops."""

from .hooks import (
    AVSegVisualizationHook,
    BadClipsHook,
    ContactSheetHook,
    NonFiniteLossError,
    NonFiniteLossHook,
    StrictCheckpointHook,
    WholeCheckpointHook,
)
from .optim_wrapper import FiniteAmpOptimWrapper, FiniteOptimWrapper

__all__ = [
    'AVSegVisualizationHook',
    'BadClipsHook',
    'ContactSheetHook',
    'FiniteAmpOptimWrapper',
    'FiniteOptimWrapper',
    'NonFiniteLossError',
    'NonFiniteLossHook',
    'StrictCheckpointHook',
    'WholeCheckpointHook',
]
