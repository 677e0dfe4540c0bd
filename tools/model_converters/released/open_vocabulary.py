# SPDX-License-Identifier: Apache-2.0
"""The published checkpoints of OV2Seg and CLIP-VIS: which is which, and what their weights are called here."""

from typing import NamedTuple

from torch import Tensor

from ovavss_mm.utils.safe_loading import CheckpointError

from . import clip_vis, ov2seg
from .keys import Conversion, convert


class System(NamedTuple):
    """A published system.

    Attributes:
        mark (str): a key that only its checkpoints have.
        rules (str): table of names, as :data:`.keys.RULES`.
        dropped (list[tuple[str, str]]): patterns of names that are not needed, each with the reason.
        fresh (tuple[str, ...]): patterns of our names that no published file has.
        config (str): path below ``configs/``.
        clip (str): beginning of the names of the CLIP in the file; empty if there is none.
    """

    mark: str
    rules: str
    dropped: list[tuple[str, str]]
    fresh: tuple[str, ...]
    config: str
    clip: str


SYSTEMS = {
    'OV2Seg': System(
        ov2seg.MARK,
        ov2seg.OV2SEG,
        ov2seg.OV2SEG_DROPPED,
        (r'classifier\.',),  # the text tower has a file of its own
        'ov2seg/ov2seg_r50_1xb1-82k_avsbench-ov.py',
        '',
    ),
    'CLIP-VIS': System(
        clip_vis.MARK,
        clip_vis.CLIP_VIS,
        clip_vis.CLIP_VIS_DROPPED,
        (),
        'clip_vis/clip-vis_rn50_1xb1-82k_avsbench-ov.py',
        clip_vis.CLIP,
    ),
}


def find_system(state: dict[str, Tensor]) -> str:
    """Tell the system, of :data:`SYSTEMS`, from published names."""
    found = [name for name, system in SYSTEMS.items() if system.mark in state]
    if len(found) != 1:
        marks = ', '.join(f'{system.mark} ({name})' for name, system in SYSTEMS.items())
        raise CheckpointError(f'no published open-vocabulary baseline: exactly one must be there of {marks}')
    return found[0]


def convert_open_vocabulary(state: dict[str, Tensor]) -> Conversion:
    """Convert a published state dict to our names, with an account of every key.

    Raises:
        CheckpointError: it is of neither system.
    """
    system = SYSTEMS[find_system(state)]
    return convert(state, system.dropped, system.rules)
