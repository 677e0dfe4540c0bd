# SPDX-License-Identifier: Apache-2.0
"""Hooks of the runner."""

from .contact_sheet_hook import ContactSheetHook
from .strict_checkpoint_hook import StrictCheckpointHook
from .visualization_hook import AVSegVisualizationHook

__all__ = ['AVSegVisualizationHook', 'ContactSheetHook', 'StrictCheckpointHook']
