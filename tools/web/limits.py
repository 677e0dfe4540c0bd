# SPDX-License-Identifier: Apache-2.0
"""Limits of what the page and its HTTP interface take, and how they say no."""

import math
import os
from dataclasses import dataclass

from ovavss_mm.apis.video.base import Source
from ovavss_mm.datasets.vocabulary import split_names
from ovavss_mm.utils.text import one_line

MEGABYTE = 2**20  # as Gradio counts them
MAX_NAMES = 200
MAX_LETTERS = 100  # of a name
MAX_MEGAPIXELS = 9  # of a frame
FPS = (1, 4)  # labelled frames a second, least and most
OPACITY = (0.1, 1)
DEFAULTS = dict(fps=1, opacity=0.6)
FAILED = 'Something went wrong; the terminal in which the server was started says what.'


class InputError(ValueError):
    """An input that the server does not take.

    Args:
        message (str): what was wrong and what to do, for whoever gave it.
        video (bool): whether it is about the video, which is then of no use. Defaults to False.
    """

    def __init__(self, message: str, video: bool = False) -> None:
        super().__init__(message)
        self.video = video


class TooLargeError(InputError):
    """A file of too many bytes."""

    def __init__(self, what: str, megabytes: float) -> None:
        super().__init__(f'{what}, the server takes {megabytes:g} MB at most.', video=True)


class QueueFullError(InputError):
    """As many videos wait as may."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f'{waiting} video{"" if waiting == 1 else "s"} wait already: try again later.')


def parse_names(text: str | None) -> list[str]:
    """Split a text at commas and new lines into class names; InputError if there are none, too many or too long."""
    try:
        names = split_names((text or '').splitlines())
    except ValueError as error:
        raise InputError(str(error)) from error
    if not names:
        raise InputError('Give at least one name to look for.')
    if len(names) > MAX_NAMES:
        raise InputError(f'{len(names)} names are given, the server takes {MAX_NAMES} at most.')
    for number, name in enumerate(names, 1):
        if len(name) > MAX_LETTERS:
            raise InputError(
                f'A name may have up to {MAX_LETTERS} letters, number {number} has {len(name)}: "{one_line(name, 40)}"'
            )
    return names


@dataclass(frozen=True)
class Limits:
    """Limits of the size of a video's file in megabytes, and of its length in seconds.

    Raises:
        ValueError: a limit is not a number above 0.
    """

    megabytes: float = 200
    seconds: float = 120

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f'the limit of {name} must be above 0, got {value!r}')

    def check_file(self, path: str, name: str) -> None:
        """Raise InputError if an uploaded file is gone, TooLargeError if it is too large."""
        if not os.path.isfile(path):
            raise InputError('The video is not here any more: upload it again.', video=True)
        size = os.path.getsize(path) / MEGABYTE
        if size > self.megabytes:
            raise TooLargeError(f'{name} has {size:.1f} MB', self.megabytes)

    def check_source(self, source: Source) -> None:
        """Raise InputError if a video says that it is too long, or its frames are too large."""
        height, width = source.size
        if height * width > MAX_MEGAPIXELS * 1e6:
            limit = f'the server takes {MAX_MEGAPIXELS} million pixels at most'
            size = f'{width} x {height} pixels'
            raise InputError(f'{source.name} has frames of {size}, {limit}.', video=True)
        self.check_seconds(source.duration or 0, source.name)

    def check_seconds(self, seconds: float, name: str, seen: bool = False) -> None:
        """Raise InputError if a video is too long; with ``seen``, so much of it was read."""
        if seconds > self.seconds + 0.5:  # the last labelled frame may end after the video
            length = f'{"more than " if seen else ""}{seconds:.0f} s'
            limit = f'the server takes {self.seconds:g} s at most: cut a part out of it'
            raise InputError(f'{name} is {length} long, {limit}.', video=True)
