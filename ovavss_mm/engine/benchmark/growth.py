# SPDX-License-Identifier: Apache-2.0
"""How time and memory grow with the size of the work, one axis at a time."""

import hashlib
import json
import math
import os
import os.path as osp
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from prettytable import PrettyTable

from .report import TOTAL, write_json

AXES = dict(
    frames=(1, 2, 5, 10, 20),
    queries=(25, 50, 100, 200),
    names=(70, 300, 1000, 3000, 10000),
    size=(128, 192, 256, 384, 512),
)
GROUPS = {
    'encoders': ('preprocessing', 'audio', 'backbone', 'neck'),
    'pixel decoder': ('pixel_decoder',),
    'decoder': ('decoder',),
    'losses': ('matching', 'losses'),
    'backward': ('backward', 'optimizer'),
    'crops and CLIP': ('crops', 'clip'),
    'label map': ('label_map',),
    'metric': ('metric',),
    'other': ('other',),
}
MEMORY = dict(peak='peak memory', memory='memory of the steps')
LABELS = dict(frames='frames', queries='queries', names='names', size='pixels of a frame')


class Point(NamedTuple):
    """What is measured at a point.

    Attributes:
        frames: T.
        queries: Q; None: the config's.
        names: N.
        size: short side in pixels.
    """

    frames: int
    queries: int | None
    names: int
    size: int

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width, near 16:9, the width a multiple of 32."""
        return self.size, max(1, round(self.size * 16 / 9 / 32)) * 32

    def value(self, axis: str) -> int | None:
        """Where the point is on an axis: of 'size', the pixels of a padded frame."""
        height, width = self.frame_size
        return -(-height // 32) * 32 * width if axis == 'size' else getattr(self, axis)


def points_of(axis: str, values: Sequence[int], held: Point) -> list[Point]:
    """The points of an axis, in order, the other values held.

    Raises:
        ValueError: an unknown axis, or a value that cannot be.
    """
    if axis not in AXES:
        raise ValueError(f'no axis {axis!r}; there are {", ".join(AXES)}')
    least = 32 if axis == 'size' else 1
    if not values or min(values) < least:
        raise ValueError(f'values of {axis} must be at least {least}, got {list(values)}')
    return [held._replace(**{axis: value}) for value in sorted(set(values))]


def parse_values(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Read ``AXIS=1,2,5`` of some axes; the others keep their usual values.

    Raises:
        ValueError: another form.
    """
    out = dict(AXES)
    for text in texts:
        axis, _, numbers = text.partition('=')
        parts = numbers.split(',')
        if axis not in AXES or not all(part.isdecimal() for part in parts):
            raise ValueError(f'values are AXIS=1,2,5 with AXIS of {", ".join(AXES)}, got {text!r}')
        out[axis] = tuple(int(part) for part in parts)
    return out


class Results:
    """Measured points in a file; what is there with the same settings is not measured again.

    Args:
        path: of the file.

    Raises:
        ValueError: the file is there but is none of ours.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if osp.isfile(path):
            try:
                with open(path, encoding='utf-8') as file:
                    self.rows = json.load(file)['points']
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(f'{path} is not a file of this benchmark; remove it') from error

    def get(self, point: Point, settings: dict[str, Any], measure: Callable[[], dict]) -> dict:
        """A point's figures: from the file, or measured now and written to the file.

        Points that failed are measured again.

        Args:
            point: where.
            settings: all else that the figures depend on; JSON keeps them.
            measure: gives the figures.
        """
        key = json.loads(json.dumps(dict(point=point._asdict(), settings=settings)))
        for row in self.rows:
            if row['key'] == key and 'error' not in row['figures']:
                return row['figures']
        figures = measure()
        self.rows = [row for row in self.rows if row['key'] != key]
        self.rows.append(dict(key=key, figures=figures))
        write_json(dict(points=self.rows), self.path)
        return figures


def figures_of(result: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a benchmark's result.

    Returns:
        ``seconds``, group of stages to median, ``'total'`` among them; ``peak``, MiB in all; ``memory``, MiB above
        what there was before the steps; ``spread``, IQR of the total over its median; ``crops``.
    """
    stages, memory = result['stages'], result['memory']
    seconds = {
        group: sum(stages[stage]['median'] for stage in members if stage in stages)
        for group, members in GROUPS.items()
        if any(stage in stages for stage in members)
    }
    total = stages[TOTAL]
    return dict(
        seconds=dict(seconds, total=total['median']),
        peak=memory['peak'],
        memory=memory['peak'] - memory['before'],
        spread=total['iqr'] / total['median'],
        crops=result['crops'],
    )


def exponent(xs: Sequence[float], ys: Sequence[float], last: int = 3) -> float | None:
    """Slope of log y over log x through the last points, by least squares; None where there is none."""
    pairs = [(math.log(x), math.log(y)) for x, y in zip(xs, ys, strict=True) if x > 0 and y > 0]
    pairs = pairs[-last:]
    if not pairs:
        return None
    mean_x, mean_y = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    below = sum((x - mean_x) ** 2 for x, _ in pairs)
    return sum((x - mean_x) * (y - mean_y) for x, y in pairs) / below if below else None


def series(axis: str, rows: Sequence[tuple[Point, dict]]) -> tuple[list[int], dict[str, list[float]]]:
    """Curves of an axis, of the points that were measured.

    Returns:
        Values on the axis, and group of stages (or of :data:`MEMORY`, MiB) to values.
    """
    done = [(point, figures) for point, figures in rows if 'error' not in figures]
    names = list(done[0][1]['seconds']) if done else []
    curves = {name: [figures['seconds'][name] for _, figures in done] for name in names}
    if done:
        curves.update({name: [figures[key] for _, figures in done] for key, name in MEMORY.items()})
    return [point.value(axis) for point, _ in done], curves


def growth_table(axis: str, rows: Sequence[tuple[Point, dict]]) -> str:
    """Write an axis as a table: milliseconds (MiB) at each point, and the exponent of the last three."""
    xs, curves = series(axis, rows)
    table = PrettyTable([LABELS[axis], *map(str, xs), 'exponent'], align='r')
    table.align[LABELS[axis]] = 'l'
    for name, values in curves.items():
        memory = name in MEMORY.values()
        slope = exponent(xs, values)
        cells = [f'{value:.0f}' if memory else f'{1e3 * value:.1f}' for value in values]
        label = f'{name}, MiB' if memory else f'{name}, ms'
        table.add_row([label, *cells, '-' if slope is None else f'{slope:.2f}'])
    failed = [
        f'{LABELS[axis]} {point.value(axis)}: {figures["error"]}' for point, figures in rows if 'error' in figures
    ]
    return '\n'.join([table.get_string(), *failed])


def plot(axes: dict[str, list[tuple[Point, dict]]], path: str, title: str) -> None:
    """Draw time and peak memory against each axis, log-log, with a dashed line of slope 1.

    Args:
        axes: axis to points and figures.
        path: of the PNG file.
        title: of the picture.
    """
    from matplotlib.figure import Figure  # without a window's back end

    figure = Figure(figsize=(11, 3.6 * len(axes)), layout='constrained')
    panels = figure.subplots(len(axes), 2, squeeze=False)
    for (axis, rows), (left, right) in zip(axes.items(), panels, strict=True):
        xs, curves = series(axis, rows)
        for name, values in curves.items():
            panel = right if name in MEMORY.values() else left
            _draw(panel, xs, values, name)
        for panel, name, unit in ((left, TOTAL, 'seconds'), (right, MEMORY['memory'], 'MiB')):
            if xs and curves[name][0] > 0:
                line = [curves[name][0] * x / xs[0] for x in xs]
                panel.plot(xs, line, 'k--', linewidth=0.8, label='slope 1')
                panel.set(xscale='log', yscale='log')
                panel.set_xticks(xs, [f'{x:,}' for x in xs])  # what was measured
                panel.set_xticks([], minor=True)
                panel.legend(fontsize=7, loc='center left', bbox_to_anchor=(1, 0.5))
            panel.set(xlabel=LABELS[axis], ylabel=unit)
            panel.grid(True, which='both', linewidth=0.3)
    figure.suptitle(title)
    # the ending says which format
    beside = f'{path}.tmp.png'
    figure.savefig(beside, dpi=120)
    os.replace(beside, path)


def _draw(panel: Any, xs: list[int], values: list[float], name: str) -> None:
    """Draw a curve; a logarithm has no place for 0."""
    kept = [(x, value) for x, value in zip(xs, values, strict=True) if value > 0]
    if kept:
        width = 2.2 if name == TOTAL else 1.2
        panel.plot(*zip(*kept, strict=True), marker='o', markersize=3, linewidth=width, label=name)


def digest(config: Any) -> str:
    """Short fingerprint of a config: figures of a changed one are not reused."""
    return hashlib.sha256(config.pretty_text.encode()).hexdigest()[:16]
