# SPDX-License-Identifier: Apache-2.0
"""What a training does about a clip that cannot be read."""

import warnings
from collections.abc import Callable
from typing import Any

ON_BAD_CLIP = ('raise', 'skip')
MAX_IN_ROW = 20
# What readers raise over a file that is missing, damaged or not what it should be.
BAD_CLIP_ERRORS = (OSError, ValueError)


def next_readable(
    read: Callable[[int], Any], index: int, num_clips: int, folder_of: Callable[[int], str]
) -> Any:
    """Read a clip, or the first one after it that can be read.

    The order is that of the data set, from its end to its start: the same clip is given whatever the
    seed and the number of loader processes. Each bad clip is told of by :mod:`warnings`, and in the
    metainfo ``bad_clips`` of the sample that is given in its place, ``[(folder, reason), ...]``.

    Args:
        read (Callable): gives the sample of an index.
        index (int): of the wanted clip.
        num_clips (int): how many there are.
        folder_of (Callable): gives the folder of an index, for messages.

    Returns:
        The sample, a dict with ``data_samples``.

    Raises:
        ValueError: so many clips in a row are bad that it is not the clips (``MAX_IN_ROW``, or all).
    """
    met = []
    for step in range(min(MAX_IN_ROW, num_clips)):
        at = (index + step) % num_clips
        try:
            sample = read(at)
        except BAD_CLIP_ERRORS as error:
            met.append((folder_of(at), f'{type(error).__name__}: {error}'))
            warnings.warn(f'bad clip {met[-1][0]}: {met[-1][1]}', RuntimeWarning, stacklevel=2)
            last = error
            continue
        if met:
            sample['data_samples'].set_metainfo(dict(bad_clips=met))
        return sample
    raise ValueError(
        f'{len(met)} clips in a row cannot be read, from {met[0][0]} ({met[0][1]}) to {met[-1][0]} '
        f'({met[-1][1]}): is the disk there, and does the pipeline fit the data?'
    ) from last
