# SPDX-License-Identifier: Apache-2.0
"""Draw a suite of ablations whose rows are points of a sweep, as lines with 95 % intervals over the seeds.

The argument is the CSV file that tools/ablate.py wrote. Rows are named `KEY = NUMBER, PANEL`, as `a = 0.1, noise`:
each panel has the number as x, and a line for base, novel and harmonic, or for other columns of the table. The picture
is written beside the file.
With --difference lines are differences to the first point of their panel, seed by seed: models differ more than points.

Examples:
  python tools/analysis_tools/plot_sweep.py work_dirs/ablate/mini/sound-naming.csv
  python tools/analysis_tools/plot_sweep.py hearing-threshold.csv --figures harmonic 'frames, noise'
"""

import argparse
import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

FIGURES = ('base', 'novel', 'harmonic')
NAME = re.compile(r'(.+?) = ([\d.]+)(?:, (.*))?')


def main(argv: list[str] | None = None) -> None:
    """Draw the picture and print its path."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('table', type=Path, metavar='SUITE.csv', help='of tools/ablate.py')
    parser.add_argument('--out', type=Path, metavar='FILE', help='default: SUITE_sweep.png beside it')
    parser.add_argument('--difference', action='store_true', help='draw differences to the first point, seed by seed')
    words = 'columns of the table that are drawn (default: base novel harmonic)'
    parser.add_argument('--figures', nargs='+', metavar='NAME', default=FIGURES, help=words)
    args = parser.parse_args(argv)
    try:
        figure = draw(*read(args.table), args.difference, args.figures)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    out = args.out or args.table.with_name(f'{args.table.stem}_sweep.png')
    figure.savefig(out)
    print(out)


def read(table: Path) -> tuple[str, dict[str, dict[float, list[dict[str, str]]]]]:
    """Name of what is swept, and for each panel the lines of the seeds that are done, by x.

    Raises:
        ValueError: no row of the table is a point that was measured.
    """
    key, panels = '', {}
    with open(table, newline='', encoding='utf-8') as file:
        for line in csv.DictReader(file):
            match = NAME.fullmatch(line['row'])
            if match and line['status'] == 'done':
                key, x, panel = match.groups()
                panels.setdefault(panel or '', {}).setdefault(float(x), []).append(line)
    if not panels:
        raise ValueError(f'{table} has no row that was measured and is named as in `a = 0.1, noise`')
    return key, panels


def draw(
    key: str,
    panels: dict[str, dict[float, list[dict[str, str]]]],
    difference: bool = False,
    figures: Sequence[str] = FIGURES,
) -> Figure:
    """A panel each, with a line a figure, or its differences to the first point; one seed has no interval.

    Raises:
        ValueError: a figure is no column of the table.
    """
    from ablation.tables import COLORS, student

    columns = next(iter(next(iter(panels.values())).values()))[0]
    if unknown := [name for name in figures if name not in columns]:
        raise ValueError(f'the table has no column {unknown[0]!r}; it has {", ".join(columns)}')
    figure = Figure(figsize=(1 + 3.5 * len(panels), 3.6), layout='constrained', dpi=110)
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (panel, points) in zip(all_axes, panels.items(), strict=True):
        for name, color in zip(figures, COLORS, strict=False):
            first = {line['seed']: float(line[name] or 'nan') for line in points[min(points)]} if difference else {}
            values = {
                x: [float(line[name]) - first.get(line['seed'], 0.0) for line in lines if line[name]]
                for x, lines in sorted(points.items())
            }
            values = {x: found for x, found in values.items() if found}
            means = [sum(found) / len(found) for found in values.values()]
            ends = [student(found) or (middle,) * 3 for found, middle in zip(values.values(), means, strict=True)]
            axes.plot(list(values), means, color=color, marker='o', markersize=3, label=name)
            low, high = ([end[place] for end in ends] for place in (1, 2))
            axes.fill_between(list(values), low, high, color=color, alpha=0.2, linewidth=0)
        axes.set(title=panel, xlabel=key)
    words = 'mIoU, ' if tuple(figures) == FIGURES else ''
    all_axes[0].set_ylabel(words + ('difference in points' if difference else 'percent'))
    all_axes[-1].legend(frameon=False)
    return figure


if __name__ == '__main__':
    main()
