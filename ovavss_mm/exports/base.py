# SPDX-License-Identifier: Apache-2.0
"""What all exports share: what is known of a video, and the objects of a labelled frame with their masks."""

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as coco

from ..models.segmentors.windows import FrameObject

if TYPE_CHECKING:  # the inferencer imports this package
    from ..apis.video.request import LabelledFrame


@dataclass
class Origin:
    """A video that is labelled, as far as exports need to know it."""

    name: str  # of its outputs
    path: str | None  # of its file; None: pictures or an array
    size: tuple[int, int]  # (H, W) of the frames, in pixels
    fps: int  # labelled frames per second
    rate: float  # mean number of its own frames per second
    numbers: list[int] = field(default_factory=list)  # own frame of each label so far, from 0; see Export.follows
    picture: Path | None = None  # the JPEG file of the last label, where it lies for now; see Export.pictures

    @property
    def picture_path(self) -> str:
        """The same as it will be called, below ``export/frames``."""
        return f'{self.name}/{self.picture.name}'

    def link_picture(self, folder: Path) -> None:
        """Have the picture in a folder, too, where the file system can without a copy."""
        folder.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.picture, folder / self.picture.name)
        except OSError:
            shutil.copyfile(self.picture, folder / self.picture.name)


class Export(ABC):
    """Writes the labels of one video in a format that other tools read, frame by frame.

    Args:
        path (Path): of the file or folder, which is not there yet.
        origin (Origin): what is known of the video; it grows with the labels.
        names (Sequence[str]): N class names.
    """

    suffix = ''  # of the file; none: a folder
    follows = True  # whether it needs to know which frame of the video a label belongs to
    pictures = False  # whether it refers to files of the labelled frames

    def __init__(self, path: Path, origin: Origin, names: Sequence[str]) -> None:
        self.path, self.origin, self.names = path, origin, tuple(names)
        if not self.suffix:
            path.mkdir(parents=True)

    @abstractmethod
    def write(self, frame: 'LabelledFrame') -> None:
        """Write the next labelled frame, or keep what is needed of it: no more than masks as RLE."""

    @abstractmethod
    def finish(self, footer: dict[str, Any]) -> list[str]:
        """Write the rest.

        Args:
            footer (dict): what the timeline says at the end: ``names`` with their ``intervals``, ``duration``.

        Returns:
            list[str]: what the format could not hold and was left out, for people.
        """

    def close(self) -> None:  # noqa: B027  (not all hold a file open)
        """Close what is open, also after an error."""


def objects_of(frame: 'LabelledFrame') -> Iterator[tuple[FrameObject, np.ndarray]]:
    """The objects of a frame and their masks, bool (H, W), of which no two share a pixel.

    Where objects are not told apart (``linker=None``) each name is one, of the id i + 1 for name i.
    """
    if frame.object_map is not None:
        for i, found in enumerate(frame.objects):
            yield found, frame.object_map == i + 1
        return
    for label, found in sorted(frame.found.items()):
        mask = frame.label_map == label + 1
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        yield FrameObject(found.area, found.sound, found.score, label + 1, label, box, number=1), mask


def rle_of(mask: np.ndarray) -> dict[str, Any]:
    """The RLE of COCO of a mask, bool (H, W): ``size`` [H, W] and ``counts``, a text."""
    rle = coco.encode(np.asfortranarray(mask, np.uint8))
    return dict(size=list(mask.shape), counts=rle['counts'].decode())


def runs_of(values: np.ndarray) -> np.ndarray:
    """Lengths of the runs of equal values of an array (n,), n > 0, from its start."""
    ends = np.flatnonzero(np.diff(values)) + 1
    return np.diff(ends, prepend=0, append=len(values))


def rounded(value: float) -> float:
    """A score as it is written."""
    return round(value, 4)
