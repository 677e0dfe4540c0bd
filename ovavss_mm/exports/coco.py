# SPDX-License-Identifier: Apache-2.0
"""COCO: each labelled frame as an image with masks; and YouTube-VIS: each object as a track of masks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..models.segmentors.windows import FrameObject
from ..utils.json_stream import JsonStream
from .base import Export, Origin, objects_of, rle_of, rounded

if TYPE_CHECKING:
    from ..apis.video.request import LabelledFrame


class _Json(Export):
    """A JSON file with ``categories``, name i with the id i + 1, and ``annotations``."""

    suffix, pictures = '.json', True

    def __init__(self, path: Path, origin: Origin, names: Sequence[str]) -> None:
        super().__init__(path, origin, names)
        categories = [dict(id=i, name=name, supercategory='') for i, name in enumerate(self.names, 1)]
        self.files: list[str] = []
        self.times: list[float] = []
        self._json = JsonStream(path, dict(info={}, licenses=[], categories=categories), 'annotations', plain=True)

    def write(self, frame: 'LabelledFrame') -> None:
        """Note the picture of the frame."""
        self.files.append(self.origin.picture_path)
        self.times.append(round(frame.time, 4))

    def close(self) -> None:
        """Close the file."""
        self._json.close()


class CocoImages(_Json):
    """COCO instances: an image a labelled frame, its objects as RLE, the bounding box as [left, top, width, height].

    Ids of objects, scores and times are keys that the format does not know, and its readers pass on: ``track_id``,
    ``score``, ``sound``; ``time`` in seconds and ``frame``, the number of the video's own frame, of an image.
    """

    def write(self, frame: 'LabelledFrame') -> None:
        """Write the objects of a frame."""
        super().write(frame)
        for found, mask in objects_of(frame):
            annotation = dict(
                id=self._json.count + 1,
                image_id=len(self.files),
                category_id=found.label + 1,
                segmentation=rle_of(mask),
                area=int(mask.sum()),
                bbox=coco_box(found),
                iscrowd=0,
                track_id=found.id,
                score=rounded(found.score),
                sound=rounded(found.sound),
            )
            self._json.write(annotation)

    def finish(self, footer: dict[str, Any]) -> list[str]:
        """Write the list of images."""
        height, width = self.origin.size
        places = zip(self.files, self.times, self.origin.numbers, strict=True)
        images = [
            dict(id=i, file_name=file, width=width, height=height, time=time, frame=number)
            for i, (file, time, number) in enumerate(places, 1)
        ]
        self._json.finish(dict(images=images))
        return []


@dataclass
class Track:
    """An object over time."""

    frames: dict[int, tuple] = field(default_factory=dict)  # by number of the label: mask, box, area
    labels: list[int] = field(default_factory=list)  # 0-based names, of these frames
    score: float = 0.0  # sums over them
    sound: float = 0.0

    def add(self, number: int, found: FrameObject, mask: np.ndarray) -> None:
        """Add what is seen of it in a labelled frame."""
        self.frames[number] = rle_of(mask), coco_box(found), int(mask.sum())
        self.labels.append(found.label)
        self.score += found.score
        self.sound += found.sound


class CocoVideo(_Json):
    """YouTube-VIS: one video, and each object in it as a list with an RLE or null for each labelled frame.

    An object has the name of most of its frames; where it has several, ``category_ids`` beside ``category_id`` has that
    of each frame. ``score`` and ``sound`` are means over its frames; of the video, ``times`` are in seconds and
    ``frames`` the numbers of its own frames.
    """

    def __init__(self, path: Path, origin: Origin, names: Sequence[str]) -> None:
        super().__init__(path, origin, names)
        self.tracks: dict[int, Track] = {}

    def write(self, frame: 'LabelledFrame') -> None:
        """Keep the masks of a frame, as RLE."""
        super().write(frame)
        for found, mask in objects_of(frame):
            self.tracks.setdefault(found.id, Track()).add(len(self.files) - 1, found, mask)

    def finish(self, footer: dict[str, Any]) -> list[str]:
        """Write the tracks, and the video."""
        height, width = self.origin.size
        shape = dict(width=width, height=height, length=len(self.files))
        changing = 0
        for identity, track in self.tracks.items():
            parts = [track.frames.get(number, (None,) * 3) for number in range(len(self.files))]
            masks, boxes, areas = zip(*parts, strict=True)
            label = Counter(track.labels).most_common(1)[0][0]
            means = dict(score=track.score / len(track.labels), sound=track.sound / len(track.labels))
            annotation = dict(
                id=identity,
                video_id=1,
                category_id=label + 1,
                segmentations=masks,
                bboxes=boxes,
                areas=areas,
                iscrowd=0,
                **{key: rounded(value) for key, value in means.items()},
                **shape,
            )
            if len(set(track.labels)) > 1:
                changing += 1
                of_frame = dict(zip(track.frames, track.labels, strict=True))
                ids = [of_frame[number] + 1 if number in of_frame else None for number in range(len(self.files))]
                annotation['category_ids'] = ids
            self._json.write(annotation)
        video = dict(id=1, file_names=self.files, times=self.times, frames=self.origin.numbers, fps=self.origin.fps)
        self._json.finish(dict(videos=[video | shape]))
        if not changing:
            return []
        return [
            f'{changing} objects change their name, and a track of YouTube-VIS has one: it is that of most frames, and '
            'those of all frames are in the key category_ids, which is no part of the format'
        ]


def coco_box(found: FrameObject) -> list[int]:
    """The bounding box of an object as [left, top, width, height], in pixels."""
    left, top, right, bottom = found.box
    return [left, top, right - left, bottom - top]
