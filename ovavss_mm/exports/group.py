# SPDX-License-Identifier: Apache-2.0
"""Which formats there are, and the exports of one video together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..utils.files import milliseconds
from ..utils.text import nearest, one_line
from .base import Export, Origin
from .coco import CocoImages, CocoVideo
from .cvat import Cvat
from .datumaro import Datumaro
from .label_studio import LabelStudio
from .mots import Mots
from .subtitles import Audacity, Rttm, SubRip, WebVtt

if TYPE_CHECKING:
    from ..apis.video.base import Picture
    from ..apis.video.request import LabelledFrame

FORMATS: dict[str, type[Export]] = {
    'coco': CocoImages,
    'youtube-vis': CocoVideo,
    'mots': Mots,
    'cvat': Cvat,
    'label-studio': LabelStudio,
    'datumaro': Datumaro,
    'vtt': WebVtt,
    'srt': SubRip,
    'rttm': Rttm,
    'audacity': Audacity,
}
FRAMES = 'frames'  # folder of the pictures that formats refer to


def check_formats(wanted: Sequence[str]) -> tuple[str, ...]:
    """Formats without repetitions.

    Raises:
        ValueError: it is no list, or one is not known.
    """
    if not isinstance(wanted, (list, tuple)):
        raise ValueError(f"export must be a list of formats, as ['coco', 'srt'], got {one_line(repr(wanted))}")
    for name in wanted:
        if not isinstance(name, str) or name not in FORMATS:
            like = nearest(str(name), FORMATS)
            raise ValueError(f'no export {one_line(repr(name))} (nearest: {like}); there are {", ".join(FORMATS)}')
    return tuple(dict.fromkeys(wanted))


def export_paths(wanted: Sequence[str], out_dir: str, name: str) -> dict[str, Path]:
    """Where the exports of a video go: files or folders by format, and that of the frames they refer to."""
    root = Path(out_dir, 'export')
    paths = {kind: root / kind / f'{name}{FORMATS[kind].suffix}' for kind in wanted}
    return ({FRAMES: root / FRAMES / name} if any(FORMATS[kind].pictures for kind in wanted) else {}) | paths


class Exports:
    """The exports of one video.

    Args:
        paths (Mapping[str, Path]): of files and folders to write, by the keys of :func:`export_paths`.
        origin (Origin): what is known of the video.
        names (Sequence[str]): N class names.
        pictures (Iterator[tuple[float, Picture]]): the frames that labels belong to, with their times.
        closing (Callable[[Export], Export]): has an export closed in the end, also after an error; gives it back.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        origin: Origin,
        names: Sequence[str],
        pictures: 'Iterator[tuple[float, Picture]]',
        closing: Callable[[Export], Export],
    ) -> None:
        self.origin, self._frames = origin, paths.get(FRAMES)
        if self._frames is not None:
            self._frames.mkdir(parents=True)
        self._exports = [closing(FORMATS[kind](path, origin, names)) for kind, path in paths.items() if kind != FRAMES]
        self._pictures = pictures if any(export.follows for export in self._exports) else None

    def write(self, frame: 'LabelledFrame') -> None:
        """Write the next labelled frame."""
        if self._pictures is not None:
            _, picture = next(self._pictures, (None, None))
            if picture is None:
                raise ValueError(f'{self.origin.name} has fewer frames when it is read again: it is damaged')
            self.origin.numbers.append(picture.number)
            if self._frames is not None:
                self.origin.picture = self._frames / f'{milliseconds(frame.time)}.jpg'
                Image.fromarray(picture.rgb()).save(self.origin.picture, quality=95)
        for export in self._exports:
            export.write(frame)

    def finish(self, footer: dict[str, Any]) -> list[str]:
        """Write the rest; gives notes of what was left out, for people."""
        return [note for export in self._exports for note in export.finish(footer)]
