# SPDX-License-Identifier: Apache-2.0
"""Runner, hooks and optimizer wrapper of training and testing."""

from .hooks import (
    AtomicCheckpointHook,
    AVSegVisualizationHook,
    BadClipsHook,
    ContactSheetHook,
    NonFiniteLossError,
    NonFiniteLossHook,
    StrictCheckpointHook,
)
from .optim_wrapper import FiniteOptimWrapper
from .optim_wrapper_constructor import PrefixOptimWrapperConstructor

__all__ = [
    'AVSegVisualizationHook',
    'AtomicCheckpointHook',
    'BadClipsHook',
    'ContactSheetHook',
    'FiniteOptimWrapper',
    'NonFiniteLossError',
    'NonFiniteLossHook',
    'PrefixOptimWrapperConstructor',
    'StrictCheckpointHook',
]
