# SPDX-License-Identifier: Apache-2.0
"""What the page takes, and how it says what it does not take."""

import math
import os
from dataclasses import dataclass, fields

import av

from ..media import open_media
from ..sources import Source

KINDS = 'mp4, mov, mkv, webm, avi, mpg, ts, flv or wmv'
MEGABYTE = 2**20  # as Gradio counts them
_SHOWN = 40  # letters of a name in a message


class Refused(ValueError):
    """An input that the page does not take; the message is for whoever gave it.

    Args:
        message: what was wrong and what to do.
        video: whether it is about the video, which is then of no use.
    """

    def __init__(self, message: str, video: bool = False) -> None:
        super().__init__(message)
        self.video = video


@dataclass(frozen=True)
class Limits:
    """What one job may be.

    Args:
        megabytes: size of the file.
        seconds: length of the video.
        names: how many.
        letters: of a name.
        megapixels: size of a frame.

    Raises:
        ValueError: a limit is not a number above 0.
    """

    megabytes: float = 200
    seconds: float = 120
    names: int = 200
    letters: int = 100
    megapixels: float = 9

    def __post_init__(self) -> None:
        """Check the numbers."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f'the limit of {field.name} must be above 0, got {value!r}')

    def parse_names(self, text: str | None) -> list[str]:
        """Names of a text in which commas or new lines stand between them.

        Args:
            text: as it was typed.

        Returns:
            The names, blanks around them removed.

        Raises:
            Refused: no names, too many, one that is too long or given twice.
        """
        names = [name.strip() for line in (text or '').splitlines() for name in line.split(',')]
        names = [name for name in names if name]
        if not names:
            raise Refused('Give at least one name to look for.')
        if len(names) > self.names:
            raise Refused(f'{len(names)} names are given, this page takes {self.names} at most.')
        known: set[str] = set()
        for number, name in enumerate(names, 1):
            if len(name) > self.letters:
                raise Refused(
                    f'A name may have up to {self.letters} letters, number {number} has {len(name)}: "{name[:_SHOWN]}…"'
                )
            key = ' '.join(name.casefold().split())
            if key in known:
                raise Refused(f'"{name}" is given twice.')
            known.add(key)
        return names

    def check_file(self, path: str, name: str) -> None:
        """Check an uploaded file before it is read.

        Args:
            path: of the file.
            name: what to call it.

        Raises:
            Refused: it is gone, too large, or no video of a kind that is read.
        """
        if not os.path.isfile(path):
            raise Refused('The video is not here any more: upload it again.', video=True)
        size = os.path.getsize(path) / MEGABYTE
        if size > self.megabytes:
            raise Refused(f'{name} has {size:.1f} MB, this page takes {self.megabytes:g} MB at most.', True)
        try:
            open_media(path).close()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise Refused(
                f'{name} cannot be read as a video: it is of another kind than {KINDS}, damaged or incomplete.',
                video=True,
            ) from error

    def check_source(self, source: Source) -> None:
        """Check a video by what it says of itself.

        Args:
            source: the open video.

        Raises:
            Refused: it is too long, or its frames are too large.
        """
        height, width = source.size
        if height * width > self.megapixels * 1e6:
            raise Refused(
                f'{source.name} has frames of {width} x {height} pixels, this page takes '
                f'{self.megapixels:g} million pixels at most.',
                video=True,
            )
        if source.duration is not None:
            self.check_seconds(source.duration, source.name)

    def check_seconds(self, seconds: float, name: str, seen: bool = False) -> None:
        """Check a length.

        Args:
            seconds: the length.
            name: of the video.
            seen: whether so much was read, and there may be more.

        Raises:
            Refused: it is too long.
        """
        if seconds > self.seconds + 0.5:  # a last frame of a second's length is none too many
            more = 'more than ' if seen else ''
            raise Refused(
                f'{name} is {more}{seconds:.0f} s long, this page takes {self.seconds:g} s at most: '
                'cut a part out of it.',
                video=True,
            )
