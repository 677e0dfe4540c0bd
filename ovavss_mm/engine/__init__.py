# SPDX-License-Identifier: Apache-2.0
"""What is attached to the training and test loops."""

from .hooks import AVSegVisualizationHook, ContactSheetHook, StrictCheckpointHook

__all__ = ['AVSegVisualizationHook', 'ContactSheetHook', 'StrictCheckpointHook']
