# SPDX-License-Identifier: Apache-2.0
r"""Bring videos that were labelled or corrected in CVAT into the layout of AVSBench-semantic.

Each file is an export of one task or job as "CVAT for video 1.1", the xml or the zip that CVAT makes
of it. A shape means that the object is seen and heard in that frame, no shape that nothing is. Masks
stay as they are until their next keyframe, polygons and boxes move on to it; a box is a filled
rectangle. Frames and sound are taken from the video that the file names, below VIDEOS.
docs/own_data.md goes on from here.

Example:
  python tools/dataset_converters/cvat_video.py --train kitchen.zip street.xml --test yard.zip \
      --videos videos --out data/own
"""

import re
import sys
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from coco_masks import decode_polygons
from own_archive import Mask, archive_name
from video_labels import VideoLabels, convert_videos, make_video_parser

from ovavss_mm.utils.text import one_line

SHAPES = ('mask', 'polygon', 'box')
BOX = ('xtl', 'ytl', 'xbr', 'ybr')
UNREADABLE = (ElementTree.ParseError, zipfile.BadZipFile, zlib.error, LookupError, RuntimeError)
MAX_BYTES = 2**31  # of the xml file in a zip file


# ---------------------------------------------------------------------- shapes
@dataclass
class Shape:
    """A shape of a track in a frame, with its attributes as they are in the file."""

    kind: str  # one of SHAPES
    outside: bool  # not seen from here on
    attributes: Mapping[str, str]

    def numbers(self) -> np.ndarray:
        """Of a polygon x, y, x, y .., of a box its four sides and its rotation in degrees; float64 (n,)."""
        if self.kind == 'polygon':
            return np.array([_number(x, 'points') for x in re.split('[,;]', _get(self.attributes, 'points'))])
        sides = [_number(_get(self.attributes, key), key) for key in BOX]
        return np.array([*sides, _number(self.attributes.get('rotation', '0'), 'rotation')])

    @property
    def layer(self) -> int:
        """What is higher covers what is lower."""
        return int(_number(self.attributes.get('z_order', '0'), 'z_order'))


@dataclass
class Track:
    """An object over time."""

    where: str  # in the file
    name: str
    frames: list[int] = field(default_factory=list)  # ascending, of the shapes
    shapes: list[Shape] = field(default_factory=list)

    def mask(self, number: int, size: tuple[int, int]) -> Mask | None:
        """Where it is in a frame, None if it is not there; ValueError with the place if a shape is malformed."""
        i = bisect_right(self.frames, number) - 1
        if i < 0 or self.shapes[i].outside:
            return None
        try:
            return Mask(self.name, self._pixels(i, number, size), self.shapes[i].layer)
        except ValueError as error:
            raise ValueError(f'{self.where}, frame {self.frames[i]}: {error}') from error

    def _pixels(self, i: int, number: int, size: tuple[int, int]) -> np.ndarray:
        """Pixels, bool (H, W), in a frame from shape i on, before the next one."""
        shape = self.shapes[i]
        if shape.kind == 'mask':
            return decode_mask(shape.attributes, size)
        numbers = shape.numbers()
        if number > self.frames[i] and i + 1 < len(self.shapes) and self.shapes[i + 1].kind == shape.kind:
            end = self.shapes[i + 1].numbers()
            if len(end) == len(numbers):
                numbers += (end - numbers) * (number - self.frames[i]) / (self.frames[i + 1] - self.frames[i])
        points = numbers if shape.kind == 'polygon' else _corners(numbers)
        return decode_polygons([points.tolist()], size)


def decode_mask(attributes: Mapping[str, str], size: tuple[int, int]) -> np.ndarray:
    """A mask, bool (H, W), from runs in rows of a rectangle, the first of background."""
    left, top, width, height = (_whole(_get(attributes, key), key) for key in ('left', 'top', 'width', 'height'))
    if min(left, top) < 0 or min(width, height) < 1 or left + width > size[1] or top + height > size[0]:
        place = f'left {left}, top {top}, width {width}, height {height}'
        raise ValueError(f'a mask must lie in the frame of {size[1]} x {size[0]} pixels, got {place}')
    runs = [_whole(run, 'rle') for run in _get(attributes, 'rle').split(',')]
    if min(runs) < 0 or sum(runs) != width * height:
        found = one_line(attributes['rle'])
        raise ValueError(f'rle must be numbers from 0 up, {width * height} in all (width times height), got {found}')
    mask = np.zeros(size, bool)
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    mask[top : top + height, left : left + width] = inside
    return mask


def _corners(box: np.ndarray) -> np.ndarray:
    """The corners x, y, x, y .. of a box: left, top, right, bottom, and degrees that it is turned clockwise."""
    left, top, right, bottom, turned = box
    middle = np.array([left + right, top + bottom]) / 2
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) - middle  # (4, 2)
    sine, cosine = np.sin(np.deg2rad(turned)), np.cos(np.deg2rad(turned))
    return (corners @ [[cosine, sine], [-sine, cosine]] + middle).ravel()  # (4, 2) -> (8,)


def _get(attributes: Mapping[str, str], key: str) -> str:
    """An attribute; ValueError if there is none."""
    if key not in attributes:
        raise ValueError(f'there is no {key}')
    return attributes[key]


def _number(text: str, key: str) -> float:
    """A finite number; ValueError if a text is none."""
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise ValueError(f'{key} must be a number, got {one_line(repr(text))}')
    return value


def _whole(text: str, key: str) -> int:
    """A whole number; ValueError if a text is none."""
    value = _number(text, key)
    if value != int(value):
        raise ValueError(f'{key} must be a whole number, got {one_line(repr(text))}')
    return int(value)


# ---------------------------------------------------------------------- file
class CvatLabels(VideoLabels):
    """The tracks of a file."""

    def __init__(self, where: str, root: ElementTree.Element) -> None:
        meta = root.find('meta')
        self._meta = ElementTree.Element('meta') if meta is None else meta
        super().__init__(where, self._text('source') or self._meta.findtext('task/name') or Path(where).stem)
        if self._meta.find('project') is not None:
            raise ValueError(f'{where} is of a whole project: export its tasks one by one')
        self.size, self.grid = self._read_size(), self._read_grid()
        names = (label.findtext('name') or '' for label in self._meta.iter('label'))
        self.names = {archive_name(name) for name in names if name.strip()}
        self.tracks = [read_track(f'{where}, track {i}', track) for i, track in enumerate(root.iter('track'))]
        self.names |= {track.name for track in self.tracks}

    def notes(self) -> list[str]:
        """What people should know."""
        boxes = sum(shape.kind == 'box' and not shape.outside for track in self.tracks for shape in track.shapes)
        return [f'{self.where}: boxes are taken as filled rectangles (number of them: {boxes})'] if boxes else []

    def masks(self, time: float, number: int, shape: tuple[int, int]) -> list[Mask]:
        """What sounds in the frame of a number."""
        masks = (track.mask(number, shape) for track in self.tracks)
        return [mask for mask in masks if mask is not None]

    def _text(self, tag: str) -> str:
        """The first text that is not blank in an element of the header."""
        texts = ((element.text or '').strip() for element in self._meta.iter(tag))
        return next(filter(None, texts), '')

    def _count(self, tag: str, default: int) -> int:
        """A number of the header, from 0 up."""
        text = self._text(tag)
        if text and not re.fullmatch('[0-9]{1,12}', text):
            raise ValueError(f'{self.where}, meta: {tag} must be a number from 0 up, got {one_line(repr(text))}')
        return int(text or default)

    def _read_size(self) -> tuple[int, int] | None:
        """(H, W) of the frames, if the header says it."""
        size = self._count('height', 0), self._count('width', 0)
        return size if all(size) else None

    def _read_grid(self) -> range:
        """The frames that are in the task or job."""
        filtered = self._text('frame_filter')
        step = re.fullmatch(r'step\s*=\s*([1-9][0-9]{0,8})', filtered or 'step=1')
        if step is None:
            raise ValueError(f'{self.where}, meta: frame_filter must be step=N, got {one_line(repr(filtered))}')
        start, step = self._count('start_frame', 0), int(step[1])
        size = self._count('size', 0)
        stop = self._count('stop_frame', start + (size - 1) * step if size else sys.maxsize - 1)
        return range(start, stop + 1, step)


def read_file(path: str, _: Any = None) -> list[CvatLabels]:
    """Read a file; FileNotFoundError if it is missing, ValueError with the place if it is malformed."""
    root = read_xml(path)
    if root.tag != 'annotations':
        raise ValueError(f'{path} has the root <{one_line(root.tag)}>, not <annotations>: export as CVAT for video 1.1')
    if root.find('image') is not None:
        raise ValueError(f'{path} has pictures without time (CVAT for images 1.1): export as CVAT for video 1.1')
    return [CvatLabels(path, root)]


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses what could define entities, which may stand for gigabytes."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called at a DOCTYPE."""
        raise ValueError('a DOCTYPE, which CVAT does not write, is not read')


def read_xml(path: str) -> ElementTree.Element:
    """The root of an xml file, or of the one in a zip file; errors as of :func:`read_file`."""
    parser = ElementTree.XMLParser(target=_NoDoctype())
    try:
        if not zipfile.is_zipfile(path):
            return ElementTree.parse(path, parser).getroot()
        with zipfile.ZipFile(path) as archive:
            names = [info for info in archive.infolist() if info.filename.lower().endswith('.xml')]
            if len(names) != 1 or names[0].file_size > MAX_BYTES:
                raise ValueError(f'an export has one xml file of up to {MAX_BYTES:,} bytes in it, found {len(names)}')
            with archive.open(names[0]) as file:
                return ElementTree.parse(file, parser).getroot()
    except UNREADABLE as error:
        raise ValueError(f'{path} cannot be read as XML: {error}') from error
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def read_track(where: str, element: ElementTree.Element) -> Track:
    """Read an element ``<track>``; ValueError with the place if it is malformed."""
    name = archive_name(element.get('label', ''))
    where = f'{where} (id {one_line(element.get("id", "none"), 40)}, {one_line(name, 40) or "no label"})'
    if not name:
        raise ValueError(f'{where}: a track must have a label')
    shapes: dict[int, Shape] = {}
    for child in element:
        text = child.get('frame', '')
        if not re.fullmatch('[0-9]{1,12}', text):
            raise ValueError(f'{where}: the frame of <{child.tag}> must be a number from 0 up, got {one_line(text)!r}')
        if child.tag not in SHAPES:
            raise ValueError(f'{where}, frame {text}: a <{child.tag}>; {", ".join(SHAPES)} are read')
        if child.get('outside', '0') not in ('0', '1'):
            raise ValueError(f'{where}, frame {text}: outside must be 0 or 1, got {one_line(child.get("outside"))!r}')
        shapes[int(text)] = Shape(child.tag, child.get('outside') == '1', child.attrib)
    frames = sorted(shapes)
    return Track(where, name, frames, [shapes[frame] for frame in frames])


def main(argv: Sequence[str] | None = None) -> None:
    """Convert; the process ends with 1 if something is wrong."""
    convert_videos(make_video_parser(__doc__, 'FILE'), argv, read_file)


if __name__ == '__main__':
    main()
