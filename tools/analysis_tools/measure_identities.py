# SPDX-License-Identifier: Apache-2.0
"""Measure how well the inferencer keeps the identities of objects, on videos of the mini world.

Each video shows three objects that move about and cross: two sound, with silent gaps, and one does not. In every third
video both sounding objects have one name, and sound at the same times, as only their places tell them apart. A frame
has the true masks of the objects that sound in it; a predicted object is one of them from an IoU of 0.5 on. Per video:

  while sounding  changes of the id of an object that goes on sounding, a minute in which it sounds and is found
  all             the same with those of an object that was silent in between
  IDF1            of motmetrics, over all sounding objects and frames, so that missed objects and false ones count
  found           share of the sounding objects and frames that are found, whatever their ids

The links are made in several ways of the same predictions: not at all, by the overlap of masks alone, by similarity
alone (of query embeddings, or of class scores), by both, and as the truth has them, which is the most that links of the
default's objects can reach. 'overlap and names' is the default; a second table has what the others differ from it.

Example:
  python tools/analysis_tools/measure_identities.py --videos 12 --out work_dirs/identities.json
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from prettytable import PrettyTable
from scipy import stats

from ovavss_mm.apis import AVSegInferencer
from ovavss_mm.apis.video.request import InferenceRequest, LabelledFrame
from ovavss_mm.apis.video.sources import open_source
from ovavss_mm.mini_world.drawing import draw_object, render_pictures
from ovavss_mm.mini_world.names import NAMES
from ovavss_mm.mini_world.scene import FRAME_SIZE, Scene, place_objects
from ovavss_mm.mini_world.sound import SAMPLE_RATE, render_sound
from ovavss_mm.utils.files import write_atomic

MIN_IOU = 0.5  # of a predicted object and a true one
SOUNDING, SILENT = (8, 20), (3, 12)  # seconds of a stretch, the last one excluded
FIGURES = ('while sounding', 'all', 'IDF1', 'found')
PARTS = ('two names', 'one name twice')
DEFAULT = 'overlap and names'
LINKERS: dict[str, dict | None] = {
    'none': dict(min_iou=None, min_similarity=None),
    'overlap': dict(min_similarity=None),
    'queries': dict(min_iou=None, similarity='queries'),
    'names': dict(min_iou=None),
    'overlap and queries': dict(similarity='queries'),
    DEFAULT: dict(),
    'truth': None,
}


def make_scene(seed: int, seconds: int) -> Scene:
    """The scene of a video: two objects that sound, of one name in every third, and one that does not."""
    rng = np.random.default_rng((seed, 9))
    names = rng.permutation(NAMES).tolist()[:3]
    sounding = [_stretches(rng, seconds), _stretches(rng, seconds), (False,) * seconds]
    if part_of(seed) == PARTS[1]:
        names[1], sounding[1] = names[0], sounding[0]
    objects = place_objects(rng, names, sounding, seconds)
    return Scene(tuple(objects[i] for i in rng.permutation(3)), seconds, int(rng.integers(2**31)))


def part_of(seed: int) -> str:
    """Which of ``PARTS`` a video belongs to."""
    return PARTS[seed % 3 == 2]


def _stretches(rng: np.random.Generator, seconds: int) -> tuple[bool, ...]:
    """When an object sounds, a flag a second: in turn, beginning with sound."""
    flags: list[bool] = []
    while len(flags) < seconds:
        flags += [True] * int(rng.integers(*SOUNDING)) + [False] * int(rng.integers(*SILENT))
    return tuple(flags[:seconds])


def true_map(scene: Scene, time: float) -> np.ndarray:
    """Which object sounds at each pixel, uint8 (96, 128): 0 none, i + 1 object i of the scene."""
    canvas, out = np.zeros((*FRAME_SIZE, 3), np.float32), np.zeros(FRAME_SIZE, np.uint8)
    for i, obj in enumerate(scene.objects):
        out[draw_object(canvas, obj, time) >= 0.5] = i + 1 if obj.sounding[int(time)] else 0
    return out


def source_of(scene: Scene, fps: int) -> dict[str, Any]:
    """The video of a scene, as the inferencer takes it."""
    return dict(
        frames=render_pictures(scene, fps)[0], sound=render_sound(scene), sample_rate=SAMPLE_RATE, frame_rate=fps
    )


class Replayer(AVSegInferencer):
    """An inferencer that predicts each window of a video once, however often the video is streamed."""

    def stream_all(self, source: dict, request: InferenceRequest) -> Iterator[tuple[str, list[LabelledFrame]]]:
        """Name of the linker and labelled frames, for each way to link."""
        self.kept: dict[tuple, list] = {}
        for name, cfg in LINKERS.items():
            self.linker_cfg = dict(type='WindowLinker', **(cfg or {}))
            if cfg is not None:  # else the frames of the one before
                frames = list(self.stream(open_source(source), request))
            yield name, frames

    def predict(self, windows: list, request: InferenceRequest) -> list:
        """As of the base class."""
        key = tuple(tuple(window.numbers) for window in windows)
        if key not in self.kept:
            self.kept[key] = super().predict(windows, request)
        return self.kept[key]


def object_ious(truth: np.ndarray, frame: LabelledFrame) -> tuple[list[int], list[int], np.ndarray]:
    """Ids of the true and of the predicted objects of a frame, and the IoU of each pair, (true, predicted)."""
    owner = np.array([0, *(found.id for found in frame.objects)])[frame.object_map]  # by pixel
    true, ids = ([int(i) for i in np.unique(x) if i] for x in (truth, owner))
    ious = np.zeros((len(true), len(ids)))
    for row, i in enumerate(true):
        for column, j in enumerate(ids):
            a, b = truth == i, owner == j
            ious[row, column] = (a & b).sum() / (a | b).sum()
    return true, ids, ious


def measure(truth: list[np.ndarray], frames: list[LabelledFrame], perfect: bool = False) -> dict[str, float | None]:
    """Figures of a video.

    Args:
        truth (list[np.ndarray]): a map a frame, see :func:`true_map`.
        frames (list[LabelledFrame]): with objects.
        perfect (bool): whether an object that is found gets its true id, and any other one an id of its own. Defaults
            to False.

    Returns:
        dict[str, float]: ``FIGURES``, in a minute and in percent; None where nothing sounds or is found.
    """
    motmetrics = import_motmetrics()
    fps = round(1 / (frames[1].time - frames[0].time)) if len(frames) > 1 else 1
    events, visible = motmetrics.MOTAccumulator(), motmetrics.MOTAccumulator(max_switch_time=fps)
    for number, (true_ids, frame) in enumerate(zip(truth, frames, strict=True)):
        true, ids, ious = object_ious(true_ids, frame)
        if perfect:
            ids = [
                true[column.argmax()] if len(true) and column.max() >= MIN_IOU else 1000 * (number + 1) + i
                for i, column in enumerate(ious.T)
            ]
        for accumulator in (events, visible):
            accumulator.update(true, ids, np.where(ious >= MIN_IOU, 1 - ious, np.nan), frameid=number)
    metrics, wanted = motmetrics.metrics.create(), ['num_switches', 'num_detections', 'num_objects', 'idf1']
    row = metrics.compute(events, metrics=wanted, return_dataframe=False)
    staying = metrics.compute(visible, metrics=wanted[:1], return_dataframe=False)
    minutes = row['num_detections'] / fps / 60
    switches = [x['num_switches'] / minutes if minutes else float('nan') for x in (staying, row)]
    found = row['num_detections'] / row['num_objects'] if row['num_objects'] else float('nan')
    figures = zip(FIGURES, (*switches, 100 * row['idf1'], 100 * found), strict=True)
    return {figure: None if np.isnan(value) else float(value) for figure, value in figures}


def import_motmetrics() -> Any:
    """The evaluator.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import motmetrics
    except ImportError as error:
        raise ImportError(f'identities are measured with motmetrics: pip install motmetrics ({error})') from error
    return motmetrics


def mean_interval(values: list[float | None]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval (Student's t); None are left out."""
    values = [value for value in values if value is not None]
    if len(values) < 2:
        return (values[0] if values else float('nan')), float('nan')
    return float(np.mean(values)), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def table_of(results: list[dict[str, Any]], against: str | None = None) -> PrettyTable:
    """A row for each part of the videos and way to link: means with 95 % intervals; or of what differs from one way."""
    title = 'linked by' if against is None else f'less {against}'
    table = PrettyTable(['videos', title, 'switches: while sounding', 'all', 'IDF1', 'found'], align='l')
    for part in PARTS:
        videos = [result for result in results if result['part'] == part]
        for name in LINKERS if videos else ():
            cells = [mean_interval([_figure(video, name, figure, against) for video in videos]) for figure in FIGURES]
            table.add_row([f'{part} ({len(videos)})', name, *(f'{mean:.2f} ± {half:.2f}' for mean, half in cells)])
    return table


def _figure(video: dict[str, Any], name: str, figure: str, against: str | None) -> float | None:
    """A figure of a video, or its difference from that of another way to link."""
    value, other = video[name][figure], 0.0 if against is None else video[against][figure]
    return None if value is None or other is None else value - other


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, of the process by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--videos', type=int, default=12, help='number of videos (default: 12)')
    add('--seconds', type=int, default=120, help='length of each (default: 120)')
    add('--fps', type=int, default=1, help='labelled frames a second (default: 1)')
    add('--own-names', action='store_true', help='ask for the two or three names of a video, not for all 20')
    add('--seed', type=int, default=0, help='of the first video, 0 to 999999 (default: 0)')
    add('--model', default='ovavss_mini_hearing', metavar='CONFIG', help='config of a model of the mini world')
    add(
        '--weights',
        default='ovavss_mm://mini_world/ovavss_mini_hearing.safetensors',
        metavar='CHECKPOINT',
        help='of the model',
    )
    add('--device', help='such as cpu or cuda:0 (default: a GPU if there is one)')
    add('--out', type=Path, metavar='FILE', help='JSON file with the figures of every video')
    args = parser.parse_args(argv)
    for name in ('videos', 'seconds', 'fps'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1, got {getattr(args, name)}')
    if not 0 <= args.seed < 10**6:
        parser.error(f'--seed must be from 0 to 999999, got {args.seed}')
    return args


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table, and write the figures."""
    args = parse_args(argv)
    try:
        import_motmetrics()
        inferencer = Replayer(args.model, args.weights, args.device, show_progress=False)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    results = []
    for seed in range(args.seed, args.seed + args.videos):
        scene = make_scene(seed, args.seconds)
        truth = [true_map(scene, i / args.fps) for i in range(args.seconds * args.fps)]
        names = dict.fromkeys(obj.name for obj in scene.objects) if args.own_names else NAMES
        request = inferencer.make_request(list(names), fps=args.fps)
        result: dict[str, Any] = dict(seed=seed, part=part_of(seed))
        for name, frames in inferencer.stream_all(source_of(scene, args.fps), request):
            result[name] = measure(truth, frames, perfect=name == 'truth')
        results.append(result)
        figures = ', '.join(f'{name} {result[name]["all"]!s:.5}' for name in LINKERS)
        print(f'video {seed} ({result["part"]}), switches a minute: {figures}', flush=True)
        if args.out is not None:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(args.out, json.dumps(dict(settings=vars(args) | dict(out=None), videos=results), indent=1))
    print(table_of(results), table_of(results, DEFAULT), sep='\n')


if __name__ == '__main__':
    main()
