# SPDX-License-Identifier: Apache-2.0
"""Compares this project with numbers that were measured from the published model.

Published weights are not needed: the numbers were measured with weights drawn by a recipe from the
names in a published checkpoint, so that the same can be drawn here, converted and run.
"""

from .lines import Line, compare, kind_of
from .loss import check_loss
from .metric import check_metric
from .network import (
    NETWORK_OUTPUTS,
    build_classifier,
    build_model,
    check_clip,
    check_end_to_end,
    check_network,
)
from .recipe import draw, draw_state

__all__ = [
    'NETWORK_OUTPUTS',
    'Line',
    'build_classifier',
    'build_model',
    'check_clip',
    'check_end_to_end',
    'check_loss',
    'check_metric',
    'check_network',
    'compare',
    'draw',
    'draw_state',
    'kind_of',
]
