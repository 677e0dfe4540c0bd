# SPDX-License-Identifier: Apache-2.0
"""COCO: each labelled frame as an image with masks; and YouTube-VIS: each object as a track of masks."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as coco

from ..models.segmentors.windows import FrameObject
from ..utils.json_stream import JsonStream
from .base import Export, Origin, objects_of, rle_of, rounded, runs_of

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
        for identity, track in self.tracks.items():
            self._json.write_text(self._annotation(identity, track))
        files = dict(file_names=self.files, times=self.times, frames=self.origin.numbers, fps=self.origin.fps)
        self._json.finish(dict(videos=[dict(id=1, **self._shape, **files)]))
        changing = sum(len(set(track.labels)) > 1 for track in self.tracks.values())
        if not changing:
            return []
        return [
            f'{changing} objects change their name, and a track of YouTube-VIS has one: it is that of most frames, and '
            'those of all frames are in the key category_ids, which is no part of the format'
        ]

    @property
    def _shape(self) -> dict[str, int]:
        """Size and length of the video."""
        height, width = self.origin.size
        return dict(width=width, height=height, length=len(self.files))

    def _annotation(self, identity: int, track: Track) -> str:
        """A track as JSON; its masks become the longer lists only here, one after the other."""
        places, seen = range(len(self.files)), len(track.labels)
        (most, _), *others = Counter(track.labels).most_common()
        annotation: dict[str, Any] = dict(id=identity, video_id=1, category_id=most + 1, iscrowd=0, **self._shape)
        annotation |= dict(score=rounded(track.score / seen), sound=rounded(track.sound / seen))
        for i, key in enumerate(('bboxes', 'areas'), 1):
            annotation[key] = [track.frames[place][i] if place in track.frames else None for place in places]
        if others:
            ids = dict(zip(track.frames, (label + 1 for label in track.labels), strict=True))
            annotation['category_ids'] = [ids.get(place) for place in places]
        masks = ', '.join(_listed(track.frames[place][0]) if place in track.frames else 'null' for place in places)
        return f'{json.dumps(annotation)[:-1]}, "segmentations": [{masks}]}}'


def _listed(rle: dict[str, Any]) -> str:
    """An RLE as JSON with its counts as a list, as YouTube-VIS has them."""
    values = coco.decode(rle).ravel('F')  # column by column
    runs = runs_of(values).tolist()
    return json.dumps(dict(size=rle['size'], counts=[0, *runs] if values[0] else runs))


def coco_box(found: FrameObject) -> list[int]:
    """The bounding box of an object as [left, top, width, height], in pixels."""
    left, top, right, bottom = found.box
    return [left, top, right - left, bottom - top]
