# SPDX-License-Identifier: Apache-2.0
r"""Bring frames that were labelled or corrected in Label Studio into the layout of AVSBench-semantic.

Each file is an export of a project as "JSON": tasks, each a frame whose data also has "video", the
name of the video file, and "time" in seconds. A brush mask or a polygon means that the object is
seen and heard in that frame; an annotation without any that nothing is. Of several annotations of a
task the last one counts; a task without one is left out, as nobody has looked at it. Frames and
sound are taken from the videos below VIDEOS. docs/own_data.md goes on from here.

Example:
  python tools/dataset_converters/label_studio.py --train project.json --test other.json \
      --videos videos --out data/own
"""

import argparse
import math
from collections.abc import Sequence

import numpy as np
from coco_masks import decode_polygons
from own_archive import Mask, archive_name
from video_labels import VideoLabels, convert_videos, make_video_parser

from ovavss_mm.utils.text import one_line

OTHER_SHAPES = ('brush', 'polygon', 'rectangle', 'ellipse', 'vector', 'bitmask', 'keypoint')
MAX_TIME = 1e6  # s
MAX_PERCENT = 1e6


class StudioLabels(VideoLabels):
    """The tasks of a video in a file."""

    def __init__(self, where: str, video: str) -> None:
        super().__init__(where, video)
        self.tasks: dict[int, tuple[str, list[dict]]] = {}  # by time in ms: where, and what was drawn
        self.left_out = 0
        self._waiting: set[int] = set()  # times that were not asked for

    def add(self, where: str, time: float, regions: list[dict] | None) -> None:
        """Add a task by its time in seconds; None are the regions of one that nobody annotated."""
        if regions is None:
            self.left_out += 1
            return
        key = round(time * 1000)
        if key in self.tasks:
            raise ValueError(f'{where}: {self.tasks[key][0]} is the same time ({time:g} s) of {self.video}')
        self.tasks[key] = where, regions
        self._waiting.add(key)
        for region in regions:
            self.names.add(region_name(region, where))

    def notes(self) -> list[str]:
        """What people should know."""
        said = []
        if self.left_out:
            said.append(f'{self.where}: tasks of {self.video} that have no annotation are left out: {self.left_out}')
        if self._waiting:
            first = min(self._waiting) / 1000
            said.append(
                f'{self.where}: tasks of {self.video} between the label maps or after its end are left out: '
                f'{len(self._waiting)} (first at {first:g} s); --fps 2 makes two label maps a second'
            )
        return said

    def masks(self, time: float, number: int, shape: tuple[int, int]) -> list[Mask] | None:
        """What sounds in the frame of a time; None if it has no task, or nobody annotated it."""
        where, regions = self.tasks.get(round(time * 1000), ('', None))
        if regions is None:
            return None
        self._waiting.discard(round(time * 1000))
        masks = []
        for i, region in enumerate(regions):
            try:
                masks.append(Mask(region_name(region, where), decode_region(region, shape, self.video)))
            except ValueError as error:
                raise ValueError(f'{where}, result[{i}]: {error}') from error
        return masks


# ---------------------------------------------------------------------- file
def read_file(path: str, args: argparse.Namespace) -> list[StudioLabels]:
    """Read a file; FileNotFoundError if it is missing, ValueError with the place if it is malformed."""
    from ovavss_mm.datasets.files import read_json

    tasks = read_json(path)
    if not isinstance(tasks, list):
        raise ValueError(f'{path} must be a list of tasks, got a {type(tasks).__name__}: export as JSON')
    videos: dict[str, StudioLabels] = {}
    for i, task in enumerate(tasks):
        said = task.get('id', 'none') if isinstance(task, dict) else 'none'
        where = f'{path}, [{i}] (task {one_line(said, 40)})'
        video, time, regions = read_task(task, where, args.predictions)
        videos.setdefault(video, StudioLabels(path, video)).add(where, time, regions)
    if videos and not any(labels.tasks for labels in videos.values()):
        raise ValueError(
            f'{path}: no task has an annotation, so nothing was checked by a person; '
            '--predictions takes what a model predicted instead'
        )
    return list(videos.values())


def read_task(task: object, where: str, predictions: bool) -> tuple[str, float, list[dict] | None]:
    """Video, time in seconds, and the regions of a task, None if nobody annotated it."""
    data = task.get('data') if isinstance(task, dict) else None
    if not isinstance(data, dict):
        raise ValueError(f'{where}: a task must have data: export as JSON, not JSON-MIN')
    video, time = data.get('video'), data.get('time')
    if not isinstance(video, str) or not video.strip():
        raise ValueError(f'{where}: data must have "video", the name of the file, got {one_line(repr(video))}')
    try:
        time = float(time)
    except (TypeError, ValueError, OverflowError):
        time = math.nan
    if not 0 <= time <= MAX_TIME:
        raise ValueError(f'{where}: data must have "time" in seconds, got {one_line(repr(data.get("time")))}')
    regions = last_result(task, 'annotations', where)
    if regions is None and predictions:
        regions = last_result(task, 'predictions', where)
    return video, time, regions and [region for region in regions if is_shape(region, where)]


def last_result(task: dict, key: str, where: str) -> list[dict] | None:
    """The result of the last annotation (or prediction, by ``key``) that was not cancelled, None if there is none."""
    notes = task.get(key) or []
    if not isinstance(notes, list) or not all(isinstance(note, dict) for note in notes):
        raise ValueError(f'{where}: {key} must be a list, got {one_line(repr(notes))}')
    kept = [note for note in notes if not note.get('was_cancelled')]
    if not kept:
        return None
    changed = [str(note.get('updated_at') or note.get('created_at') or '') for note in kept]
    last = max(range(len(kept)), key=lambda i: (changed[i], i))
    result = kept[last].get('result')
    if not isinstance(result, list) or not all(isinstance(region, dict) for region in result):
        raise ValueError(f'{where}: the result in {key} must be a list of regions, got {one_line(repr(result))}')
    return result


def is_shape(region: dict, where: str) -> bool:
    """Whether a part of a result is a shape, and not a choice or text; ValueError if it is one that is not read."""
    kind = str(region.get('type'))
    if kind.removesuffix('labels') in OTHER_SHAPES and kind not in ('brushlabels', 'polygonlabels'):
        raise ValueError(f'{where}: a region of type {kind!r}; brushlabels and polygonlabels are read: draw it so')
    return kind in ('brushlabels', 'polygonlabels')


def region_name(region: dict, where: str) -> str:
    """The name of a region; ValueError if it has none or several."""
    value = region.get('value')
    names = value.get(region['type']) if isinstance(value, dict) else None
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str) or not names[0].strip():
        raise ValueError(f'{where}: a region must have one name, got {one_line(repr(names))}')
    return archive_name(names[0])


# ---------------------------------------------------------------------- masks
def decode_region(region: dict, shape: tuple[int, int], video: str) -> np.ndarray:
    """The pixels of a region, bool (H, W)."""
    size, value = (region.get('original_height'), region.get('original_width')), region['value']
    if size != shape:
        raise ValueError(
            f'its picture has {size[1]} x {size[0]} pixels (original_width and original_height), a frame of {video} '
            f'as players show it {shape[1]} x {shape[0]}'
        )
    if turned := region.get('image_rotation'):
        raise ValueError(f'its picture was turned by {one_line(repr(turned))} degrees: turn it back')
    if region['type'] == 'polygonlabels':
        return decode_polygon(value.get('points'), shape)
    if value.get('format') != 'rle':
        raise ValueError(f"the format of a brush mask must be 'rle', got {one_line(repr(value.get('format')))}")
    values = decode_brush(value.get('rle'), 4 * shape[0] * shape[1])
    alpha = values.reshape(*shape, 4)[..., 3]  # (H * W * 4,) -> (H, W)
    return alpha > alpha.max() // 2  # strokes have soft edges


def decode_polygon(points: object, shape: tuple[int, int]) -> np.ndarray:
    """The pixels of a polygon, bool (H, W), from corners [x, y] in percent of the picture."""

    def is_corner(point: object) -> bool:
        return isinstance(point, list) and len(point) == 2 and all(map(is_percent, point))

    def is_percent(x: object) -> bool:
        return type(x) in (int, float) and abs(x) < MAX_PERCENT

    if not isinstance(points, list) or not all(map(is_corner, points)):
        raise ValueError(f'points must be a list of [x, y] in percent, got {one_line(repr(points))}')
    corners = np.array(points, float).reshape(-1, 2) * [shape[1] / 100, shape[0] / 100]  # (n, 2)
    return decode_polygons([corners.ravel().tolist()], shape)


def decode_brush(rle: object, count: int) -> np.ndarray:
    """Values, uint8 (count,), of the runs of a brush mask.

    They are bits, the high one of a byte first: 32 for the number of values, 5 for the bits of a value less 1, and four
    times 4 for bits of lengths less 1. Then, of each run: 1 if it repeats one value, 2 for which of the four its length
    has, the length less 1, and one value or so many.

    Raises:
        ValueError: these are no such runs, or of another number of values.
    """
    try:
        data = bytes(rle if isinstance(rle, list) else [None])
    except (TypeError, ValueError) as error:
        raise ValueError(f'rle must be a list of numbers from 0 to 255, got {one_line(repr(rle))}') from error
    bits, at = ''.join(f'{byte:08b}' for byte in data), 0

    def take(number: int) -> int:
        nonlocal at
        at += number
        if at > len(bits):
            raise ValueError(f'the rle of a brush mask breaks off after {len(data)} bytes')
        return int(bits[at - number : at], 2)

    announced = take(32)
    if announced != count:
        raise ValueError(f'the rle of a brush mask must have {count} values (4 a pixel), has {announced}')
    word, sizes = take(5) + 1, [take(4) + 1 for _ in range(4)]
    if word != 8:
        raise ValueError(f'the values of a brush mask must have 8 bits, got {word}')
    out, i = np.zeros(count, np.uint8), 0
    while i < count:
        repeats, length = take(1), take(sizes[take(2)]) + 1
        if repeats:
            out[i : i + length] = take(word)
        else:
            end = min(i + length, count)
            out[i:end] = [take(word) for _ in range(end - i)]
        i += length
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Convert; the process ends with 1 if something is wrong."""
    parser = make_video_parser(__doc__, 'JSON')
    unchecked = 'take the predictions of tasks that have no annotation: what no person has checked'
    parser.add_argument('--predictions', action='store_true', help=unchecked)
    convert_videos(parser, argv, read_file)


if __name__ == '__main__':
    main()
