# SPDX-License-Identifier: Apache-2.0
"""Draw the confusion matrix of a test, base and novel names apart, and the IoU of each name.

Every test (and validation) leaves `confusion.json` beside its log. The argument is that file, or a
work dir, whose newest run counts. Two pictures are written beside the file, or into --out-dir:
`confusion_matrix.png` and `class_iou.png`.

Example:
  python tools/analysis_tools/confusion.py work_dirs/demo/test
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

sys.path.append(str(Path(__file__).resolve().parents[2]))  # of a checkout that is not installed

FILE_NAME = 'confusion.json'
COLORS = {'background': '#7f7f7f', 'base': '#2b6cb0', 'novel': '#dd6b20', 'other': '#6b7280'}
_MEANS = {'base': '#0b2f57', 'novel': '#8a3a05'}  # darker, as the lines cross the bars
_LEAST_SHOWN = 1.0  # percent: cells below have no number


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; None: that of the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('run', metavar='WORK_DIR_OR_FILE', help='work dir of a test, or its file')
    parser.add_argument('--out-dir', type=Path, metavar='DIR', help='where the pictures go (default: beside it)')
    parser.add_argument('--title', default='', help='written on both pictures')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Draw both pictures and print the most frequent confusions."""
    args = parse_args(argv)
    from ovavss_mm.compat import import_quietly
    from ovavss_mm.utils.files import atomic_path

    import_quietly('ovavss_mm.evaluation')
    try:
        path = newest_confusion(args.run)
        confusion = read_confusion(path)
        figures = {
            'confusion_matrix.png': draw_confusion(confusion, args.title),
            'class_iou.png': draw_class_iou(confusion, args.title),
        }
        written = [(args.out_dir or path.parent) / name for name in figures]
        for target, figure in zip(written, figures.values(), strict=True):
            with atomic_path(target) as beside:
                figure.savefig(beside)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(f'from {path}: {confusion.counts.sum():,} pixels')
    for target in written:
        print(f'wrote {target}')
    print('most often taken for another name (percent of its pixels):')
    for true, predicted, share in most_confused(confusion):
        print(f'  {true} as {predicted}: {share:.1f}')


# ---------------------------------------------------------------------- reading
@dataclass(frozen=True)
class Confusion:
    """A confusion matrix with its classes.

    Attributes:
        counts (np.ndarray): int64 (C, C), entry (i, j) counts the pixels labelled i and predicted j.
        classes (tuple[str, ...]): C names, the background first.
        base_names (tuple[str, ...]): which of them are base.
        novel_names (tuple[str, ...]): which of them are novel.

    Raises:
        ValueError: they do not belong together.
    """

    counts: np.ndarray
    classes: tuple[str, ...]
    base_names: tuple[str, ...]
    novel_names: tuple[str, ...]

    def __post_init__(self) -> None:
        size, kind = len(self.classes), self.counts.dtype
        if self.counts.shape != (size, size) or kind.kind not in 'iu':
            raise ValueError(f'{size} classes need integer counts ({size}, {size}), got {kind} {self.counts.shape}')
        if self.counts.min(initial=0) < 0:
            raise ValueError(f'a count is negative: {self.counts.min()}')
        texts = all(isinstance(name, str) for name in self.classes)
        if not texts or self.classes[:1] != ('background',) or len(set(self.classes)) != size:
            raise ValueError(f'classes must be distinct, "background" first, got {self.classes[:5]} ...')
        parts = (*self.base_names, *self.novel_names)
        strange = sorted({n for n in parts if n not in self.classes[1:] or parts.count(n) > 1})
        if strange:
            raise ValueError(f'base and novel names must part the classes: {strange[:5]}')

    def blocks(self) -> dict[str, list[int]]:
        """Class indices by 'background', 'base', 'novel' and 'other', each by name; empty ones are left out."""
        part_of = {'background': 'background', **dict.fromkeys(self.base_names, 'base')}
        part_of |= dict.fromkeys(self.novel_names, 'novel')
        out: dict[str, list[int]] = {part: [] for part in COLORS}
        for index in sorted(range(len(self.classes)), key=self.classes.__getitem__):
            out[part_of.get(self.classes[index], 'other')].append(index)
        return {part: block for part, block in out.items() if block}

    def row_percent(self) -> np.ndarray:
        """What became of each class's pixels, float64 (C, C): rows add up to 100, NaN where a class has none."""
        totals = self.counts.sum(1, keepdims=True)
        out = np.full(self.counts.shape, np.nan)
        return np.divide(100.0 * self.counts, totals, out=out, where=totals > 0)


def read_confusion(path: str | Path) -> Confusion:
    """Read what :class:`OVIoUMetric` wrote; ValueError if the file is of another kind, or damaged."""
    content = Path(path).read_bytes()
    try:
        found = json.loads(content)
        if not isinstance(found, dict) or found.get('kind') != 'ovavss_mm confusion matrix':
            keys = sorted(found)[:5] if isinstance(found, dict) else type(found).__name__
            raise ValueError(f'it is JSON of another kind ({keys})')
        names = (tuple(found[key]) for key in ('classes', 'base_names', 'novel_names'))
        return Confusion(np.array(found['counts']), *names)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f'{path} is no confusion matrix of a run: {str(error)[:500]}') from error


def newest_confusion(path: str | Path) -> Path:
    """Find the file of a run.

    Args:
        path (str | Path): the file itself, the folder of one run, or a work dir, whose newest run with such a file
            counts.

    Returns:
        Path: of the file.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f'there is no file or folder {path}')
    found = [*sorted(path.glob(f'*/{FILE_NAME}')), *path.glob(FILE_NAME)]  # folders are named after the time
    if not found:
        raise FileNotFoundError(
            f'{path} has no {FILE_NAME}, neither itself nor in the folder of a run. Every test and '
            'validation leaves one unless OVIoUMetric has save_confusion=False; make one: '
            f'mim test ovavss_mm CONFIG --checkpoint CHECKPOINT --work-dir {path}'
        )
    return found[-1]


def most_confused(confusion: Confusion, count: int = 5) -> list[tuple[str, str, float]]:
    """The most frequent confusions of two names.

    Args:
        confusion (Confusion): of a test.
        count (int): how many pairs are wanted. Defaults to 5.

    Returns:
        list[tuple[str, str, float]]: (true name, predicted name, percent of the true name's pixels), the greatest
        share first. The background counts as neither, pairs that never occur are left out.
    """
    shares = np.nan_to_num(confusion.row_percent())
    np.fill_diagonal(shares, 0)
    shares[0] = shares[:, 0] = 0
    pairs = [divmod(int(k), len(shares)) for k in np.argsort(-shares, axis=None, kind='stable')[:count]]
    return [(confusion.classes[i], confusion.classes[j], float(shares[i, j])) for i, j in pairs if shares[i, j] > 0]


# ---------------------------------------------------------------------- drawing
def draw_confusion(confusion: Confusion, title: str = '') -> Figure:
    """Draw the confusion matrix, rows true names, columns predicted.

    The background stands first, then base and novel names, each by name and parted by lines. Numbers are percent of
    the row; those below 1 are left out. A row is grey if its class has no labelled pixel. The colours grow with the
    square root of the share, so that rare confusions are seen.
    """
    blocks = confusion.blocks()
    order = [index for block in blocks.values() for index in block]
    shares = confusion.row_percent()[np.ix_(order, order)]
    names, size = [confusion.classes[index] for index in order], len(order)
    small = size > 40
    cell = 0.23 if small else 0.36  # inches
    figure = _figure(size * cell + 3.2, size * cell + 2.6, 150 if small else 110)
    axes = figure.add_subplot()
    axes.set_facecolor('#e2e2e2')
    image = axes.imshow(np.ma.masked_invalid(shares), cmap='Blues', norm=PowerNorm(0.5, vmin=0, vmax=100))
    axes.set_xticks(range(size), names, rotation=90, fontsize=6.5 if small else 9)
    axes.set_yticks(range(size), names, fontsize=6.5 if small else 9)
    axes.tick_params(length=0)
    axes.set_xlabel('predicted', fontweight='bold')
    axes.set_ylabel('true', fontweight='bold')
    for row, column in np.argwhere(np.nan_to_num(shares) >= _LEAST_SHOWN):
        share = shares[row, column]
        style = dict(fontsize=5 if small else 7, color='white' if share > 35 else 'black')
        axes.text(column, row, f'{share:.0f}', ha='center', va='center', **style)
    _part_blocks(axes, blocks, size)
    if title:
        axes.set_title(title, pad=26, fontweight='bold')
    bar = figure.colorbar(image, ax=axes, fraction=0.035, pad=0.015, ticks=[0, 1, 5, 20, 50, 100])
    bar.set_label("percent of the true name's pixels")
    return figure


def _part_blocks(axes: Axes, blocks: dict[str, list[int]], size: int) -> None:
    """Draw lines between the blocks and name them above and at the right."""
    start = 0
    for part, block in blocks.items():
        end = start + len(block)
        if end < size:
            axes.axhline(end - 0.5, color='black', linewidth=1.2)
            axes.axvline(end - 0.5, color='black', linewidth=1.2)
        if part != 'background':  # one row: its name is at the axis
            middle = (start + end - 1) / 2
            style = dict(color=COLORS[part], fontweight='bold', fontsize=11)
            axes.text(middle, -0.9, part, ha='center', va='bottom', **style)
            axes.text(size - 0.2, middle, part, ha='left', va='center', rotation=270, **style)
        start = end


def draw_class_iou(confusion: Confusion, title: str = '') -> Figure:
    """Draw a bar for each class's IoU, the best at the top.

    Base and novel names differ in colour, a line of a darker shade marks the mean of either. Classes that are neither
    labelled nor predicted have no IoU and are named below; ValueError if no class has one.
    """
    from ovavss_mm.evaluation.functional import per_class_iou

    iou = 100 * per_class_iou(confusion.counts)
    part = {i: name for name, block in confusion.blocks().items() for i in block}
    order = sorted(np.flatnonzero(~np.isnan(iou)), key=lambda i: (-iou[i], confusion.classes[i]))
    if not order:
        raise ValueError('the confusion matrix counts no pixel: there is no IoU to draw')
    figure = _figure(8, 0.21 * len(order) + 2.0)
    axes = figure.add_subplot()
    rows = range(len(order))
    axes.barh(rows, iou[order], color=[COLORS[part[i]] for i in order], height=0.78)
    paper = dict(facecolor='white', edgecolor='none', pad=0.8)  # over the lines of the means
    for row, value in zip(rows, iou[order], strict=True):
        axes.text(value + 0.7, row, f'{value:.1f}', va='center', fontsize=7, bbox=paper)
    axes.set_yticks(rows, [confusion.classes[i] for i in order], fontsize=8)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.grid(axis='x', color='#dddddd', linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right', 'left']].set_visible(False)
    axes.tick_params(axis='y', length=0)
    absent = [confusion.classes[i] for i in np.flatnonzero(np.isnan(iou))]
    axes.set_xlabel('IoU, percent' + _absent_note(absent))
    if title:
        axes.set_title(title, fontweight='bold')
    axes.legend(handles=_mean_lines(axes, confusion, iou), loc='lower right', fontsize=8)
    return figure


def _mean_lines(axes: Axes, confusion: Confusion, iou: np.ndarray) -> list[Patch]:
    """Draw the mean IoU of base and novel names; returns the entries of the legend."""
    from ovavss_mm.evaluation.functional import mean_of

    handles = []
    for part, block in confusion.blocks().items():
        label, mean = part, mean_of(iou, np.array(block))
        if part in _MEANS and not np.isnan(mean):
            axes.axvline(mean, color=_MEANS[part], linestyle='--', linewidth=1.4, label=part)
            label = f'{part}, mean {mean:.2f}'
        handles.append(Patch(color=COLORS[part], label=label))
    return handles


def _absent_note(absent: list[str]) -> str:
    """Name the classes without a figure."""
    from ovavss_mm.utils.text import shorten

    return f'\nneither labelled nor predicted: {shorten(absent, 6)}' if absent else ''


def _figure(width: float, height: float, dpi: int = 110) -> Figure:
    """An empty figure of a size in inches, without a window."""
    figure = Figure(figsize=(width, height), layout='constrained', dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


if __name__ == '__main__':
    main()
