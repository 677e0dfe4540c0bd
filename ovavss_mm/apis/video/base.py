# SPDX-License-Identifier: Apache-2.0
"""Sources: streams of frames with sound, and the frames that are shown at given times."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from .sound import SoundTrack

# A frame may be this much later than the time stamp it stands for, whatever the frame rate.
MAX_TOLERANCE = 0.05  # s
LEAST_REST = 0.2  # of the time between two labels, below which the rest of a video gets none of its own


@dataclass
class Picture:
    """A frame that has not been turned into an array yet."""

    time: float  # when it is shown, in seconds from the first frame
    end: float  # when it is shown no more
    rgb: Callable[[], np.ndarray]  # makes the array, uint8 RGB (H, W, 3)
    number: int = 0  # among all that were decoded, from 0


class Source:
    """A stream of frames with sound; subclasses say where the frames come from.

    Args:
        name (str): what to call it, and its outputs.
        sound (SoundTrack): its track. None, the default, is silence.

    Attributes:
        size (tuple[int, int]): (H, W) of the frames as they are shown, in pixels.
        rate (float): mean number of frames per second.
        duration (float): in seconds, None if it is not known before the end.
        damage (str): what is missing or could not be read, once that was met.
        notes (list[str]): what else is worth saying, for people.
    """

    size: tuple[int, int]
    rate: float
    duration: float | None = None

    def __init__(self, name: str, sound: SoundTrack | None = None) -> None:
        self.name, self.sound = name, sound
        self.damage: str | None = None
        self.notes: list[str] = []

    def pictures(self) -> Iterator[Picture]:
        """Frames from the first on, in order of time; each call starts anew."""
        raise NotImplementedError

    @property
    def tolerance(self) -> float:
        """Half the time between two frames, at most 0.05 s: time stamps are rounded."""
        return min(0.5 / self.rate, MAX_TOLERANCE)


def frames_at(source: Source, fps: int) -> Iterator[tuple[float, np.ndarray]]:
    """Times and arrays, uint8 RGB (H, W, 3), of :func:`pictures_at`."""
    for time, picture in pictures_at(source, fps):
        yield time, picture.rgb()


def pictures_at(source: Source, fps: int) -> Iterator[tuple[float, Picture]]:
    """The frames that are shown at whole ``1 / fps`` seconds.

    Args:
        source (Source): of fixed or variable frame rate.
        fps (int): frames per second.

    Yields:
        tuple[float, Picture]: time ``j / fps``, and the last frame that is shown by then or up to ``source.tolerance``
        later. There is at least one; a rest at the end of less than ``LEAST_REST`` of the time between two has none.
    """
    rest = max(source.tolerance, LEAST_REST / fps)
    number, before, pace = 0, None, 0.0
    due: list[tuple[float, Picture]] = []  # until it is known how long the video goes on
    for picture in source.pictures():
        while before is not None and picture.time > number / fps + source.tolerance:
            due.append((number / fps, before))
            number += 1
        while due and (due[0][0] == 0 or due[0][0] + rest <= picture.end):
            yield due.pop(0)
        if before is not None:
            pace = picture.time - before.time
        before = picture
    if pace > rest:  # how long the last one of slow pictures is shown is not known
        rest = source.tolerance
    while before is not None and (number == 0 or number / fps + rest <= before.end):
        yield number / fps, before
        number += 1
