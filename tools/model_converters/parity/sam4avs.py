# SPDX-License-Identifier: Apache-2.0
"""The sound front end of Sam4AVS against the published one."""

import zlib

import numpy as np

from ovavss_mm.datasets.transforms.clap_log_mel import INT16, CLAPLogMel

from .common import Arrays, Line, compare, register

_FRAMES = 5
_DECIBELS = 1e-2


@register('sam4avs_front')
def check_front(fixture: Arrays) -> list[Line]:
    """Compare pieces, which must be equal, and log-mels.

    Args:
        fixture (Mapping[str, np.ndarray]): arrays of the file; log-mels of the first spectra only, as they repeat.

    Returns:
        list[Line]: four lines for each sound.
    """
    front, lines = CLAPLogMel(), []
    for name in ('short', 'long'):
        wave = fixture[f'{name}_wave'].astype(np.float32)
        length = front.num_samples(_FRAMES)
        pieces = [front.piece(part) for part in np.split(front.fill(wave, length)[:length], _FRAMES)]
        levels = [np.round(piece * INT16).astype(np.int16) for piece in pieces]
        mels = front(wave, _FRAMES)[:, 0]  # (5, 1, 1001, 64) -> (5, 1001, 64)
        head, shown = (fixture[f'{name}_{key}'].shape[1] for key in ('piece_head', 'logmel'))
        ours = dict(
            piece_sum=[level.sum(dtype=np.int64) for level in levels],
            piece_crc32=[zlib.crc32(level.tobytes()) for level in levels],
            piece_head=[piece[:head] for piece in pieces],
            logmel=mels[:, :shown],
        )
        for key, value in ours.items():
            bound = _DECIBELS if key == 'logmel' else 0
            lines.append(compare(f'{name}_{key}', value, fixture[f'{name}_{key}'], bound))
    return lines
