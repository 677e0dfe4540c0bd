# SPDX-License-Identifier: Apache-2.0
"""The page's modules, which ``tools/web_demo.py`` finds beside itself, and an inferencer of a tiny model."""

import sys
from pathlib import Path

from tiny_inferencer import inferencer, tiny  # noqa: F401  (fixtures)

sys.path.append(str(Path(__file__).parents[3] / 'tools'))
