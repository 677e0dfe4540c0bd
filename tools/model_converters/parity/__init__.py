# SPDX-License-Identifier: Apache-2.0
"""Compares this project with numbers that were measured from published models.

Published weights are not needed: the numbers were measured with weights drawn by a recipe from the
names in a published checkpoint, so that the same can be drawn here, converted and run.

What a fixture holds is told by its file's name up to ``_seed``. A module of this folder registers the
comparison of its fixtures with :func:`register`; a further system is one more module.
"""

import pkgutil
from importlib import import_module

from .common import CHECKS, Check, Line, compare, draw, draw_state, register

for _module in pkgutil.iter_modules(__path__):
    import_module(f'{__name__}.{_module.name}')

__all__ = ['CHECKS', 'Check', 'Line', 'compare', 'draw', 'draw_state', 'register']
