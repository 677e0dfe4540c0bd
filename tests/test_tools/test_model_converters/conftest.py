# SPDX-License-Identifier: Apache-2.0
"""Tests of the converters find what all tests share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import published  # noqa: E402, F401  (which finds the folders beside the converters)
