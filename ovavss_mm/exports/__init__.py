# SPDX-License-Identifier: Apache-2.0
"""Writes what is labelled in the formats that other tools read."""

from .base import Origin
from .detections import to_detections
from .group import FORMATS, Exports, check_formats, export_paths

__all__ = ['FORMATS', 'Exports', 'Origin', 'check_formats', 'export_paths', 'to_detections']
