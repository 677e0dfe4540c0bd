# SPDX-License-Identifier: Apache-2.0
"""The page's modules, which ``tools/web_demo.py`` finds beside itself, an inferencer of a tiny model, and a server."""

import sys
from pathlib import Path

from tiny_inferencer import inferencer, tiny  # noqa: F401  (fixtures)

sys.path.append(str(Path(__file__).parents[3] / 'tools'))
from web_site import busy, clip, later, post, site  # noqa: E402, F401  (fixtures)
