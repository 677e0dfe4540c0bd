# SPDX-License-Identifier: Apache-2.0
"""The picture of a suite: bars a row, with their spread over seeds."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...utils.files import atomic_path
from ...visualization.confusion import COLORS
from .suites import Suite
from .tables import SILENT, Measured

SCORE_COLORS = dict(base=COLORS['base'], novel=COLORS['novel'], harmonic='#2f855a')
SILENT_COLORS = dict(zip(SILENT, ('#805ad5', '#d53f8c'), strict=True))


def draw(suite: Suite, rows: Sequence[Measured], data: str) -> Figure:
    """Draw what was measured here; numbers of the paper are not in the picture.

    Args:
        suite: the suite; where its name begins with ``sound`` a second panel has the shares of silent pixels and
            frames that were labelled all the same.
        rows: what is known of its rows.
        data: what they were measured on.

    Returns:
        The figure. Rows without results have no bars.
    """
    panels = [('mIoU, percent', {key: key for key in SCORE_COLORS}, SCORE_COLORS)]
    if suite.name.startswith('sound'):
        words = {key: text.removesuffix(' %') for key, text in SILENT.items()}
        panels.append(('of what is silent, percent', words, SILENT_COLORS))
    width = max(5.0, 1.35 * len(rows) + 1.5)
    figure = Figure(figsize=(width, 3.9 * len(panels)), layout='constrained', dpi=110)
    FigureCanvasAgg(figure)
    for axes, (label, words, colors) in zip(np.atleast_1d(figure.subplots(len(panels))), panels, strict=True):
        _bars(axes, rows, words, colors)
        axes.set_ylabel(label)
    figure.suptitle(f'{suite.title}: on {data}', fontweight='bold')
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a picture, whole or not at all."""
    with atomic_path(path) as beside:
        figure.savefig(beside, format='png')


def _bars(axes: Axes, rows: Sequence[Measured], words: Mapping[str, str], colors: Mapping[str, str]) -> None:
    """A group of bars a row, with numbers on them and lines for the spread."""
    width = 0.8 / len(words)
    for place, (key, text) in enumerate(words.items()):
        at = [index for index, row in enumerate(rows) if row.values(key)]
        values = [mean(rows[index].values(key)) for index in at]
        spread = [_spread(rows[index].values(key)) for index in at]
        x = np.array(at, float) + (place - (len(words) - 1) / 2) * width
        axes.bar(x, values, width * 0.94, yerr=spread, color=colors[key], label=text, capsize=2)
        for left, value, error in zip(x, values, spread, strict=True):
            axes.text(left, value + error, f'{value:.1f}', ha='center', va='bottom', fontsize=7)
    axes.set_xticks(range(len(rows)), [_tick(row) for row in rows], fontsize=8)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    highest = max((max(row.values(key)) for key in words for row in rows if row.values(key)), default=0)
    axes.set_ylim(0, max(5.0, 1.15 * highest))
    axes.grid(axis='y', color='#dddddd', linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ('top', 'right', 'left'):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    axes.legend(fontsize=8, loc='upper left', bbox_to_anchor=(1.0, 1.0), frameon=False)


def _spread(values: Sequence[float]) -> float:
    """Standard deviation; 0 for one value."""
    return stdev(values) if len(values) > 1 else 0.0


def _tick(row: Measured) -> str:
    """Name of a row, and why there are no bars."""
    state = row.status.partition(':')[0]
    return '\n'.join([*textwrap.wrap(row.entry.row.name, 16), *([f'({state})'] if state else [])])
