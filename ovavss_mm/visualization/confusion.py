# SPDX-License-Identifier: Apache-2.0
"""Plots of a whole test: confusion matrix and IoU by class."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..evaluation.confusion import Confusion
from ..evaluation.functional import mean_of, per_class_iou

COLORS = {'background': '#7f7f7f', 'base': '#2b6cb0', 'novel': '#dd6b20', 'other': '#6b7280'}
_MEANS = {'base': '#0b2f57', 'novel': '#8a3a05'}  # darker, as the lines cross the bars
_ABSENT = '#e2e2e2'
_LEAST_SHOWN = 1.0  # percent: cells below have no number


def draw_confusion(confusion: Confusion, title: str = '') -> Figure:
    """Draw the confusion matrix, rows true names, columns predicted.

    The background stands first, then the base and the novel names, each in alphabetical order and
    parted by lines. Numbers are percent of the row; those below 1 are left out. A row is grey if its
    class has no labelled pixel. The colours grow with the square root of the share, so that rare
    confusions are seen.

    Args:
        confusion (Confusion): what to draw.
        title (str): written at the top. Defaults to ''.

    Returns:
        Figure: The figure.
    """
    blocks = confusion.blocks()
    order = [index for block in blocks.values() for index in block]
    shares = confusion.row_percent()[np.ix_(order, order)]
    size = len(order)
    small = size > 40
    cell = 0.23 if small else 0.36  # inches
    figure = _figure(size * cell + 3.2, size * cell + 2.6, 150 if small else 110)
    axes = figure.add_subplot()
    axes.set_facecolor(_ABSENT)
    image = axes.imshow(np.ma.masked_invalid(shares), cmap='Blues', norm=PowerNorm(0.5, vmin=0, vmax=100))
    names = [confusion.classes[index] for index in order]
    text = 6.5 if small else 9
    axes.set_xticks(range(size), names, rotation=90, fontsize=text)
    axes.set_yticks(range(size), names, fontsize=text)
    axes.tick_params(length=0)
    axes.set_xlabel('predicted', fontweight='bold')
    axes.set_ylabel('true', fontweight='bold')
    _write_shares(axes, shares, 5 if small else 7)
    _part_blocks(axes, blocks, size)
    if title:
        axes.set_title(title, pad=26, fontweight='bold')
    bar = figure.colorbar(image, ax=axes, fraction=0.035, pad=0.015, ticks=[0, 1, 5, 20, 50, 100])
    bar.set_label("percent of the true name's pixels")
    return figure


def draw_class_iou(confusion: Confusion, title: str = '') -> Figure:
    """Draw a bar for each class's IoU, the best at the top.

    Base and novel names differ in colour, a line of a darker shade marks the mean of either.
    Classes that are neither labelled nor predicted have no IoU and are named below.

    Args:
        confusion (Confusion): what to draw.
        title (str): written at the top. Defaults to ''.

    Returns:
        Figure: The figure.

    Raises:
        ValueError: if no class has an IoU, as there is no labelled pixel.
    """
    iou = 100 * per_class_iou(confusion.counts)
    part = {i: name for name, block in confusion.blocks().items() for i in block}
    order = sorted(np.flatnonzero(~np.isnan(iou)), key=lambda i: (-iou[i], confusion.classes[i]))
    if not order:
        raise ValueError('the confusion matrix counts no pixel: there is no IoU to draw')
    figure = _figure(8, 0.21 * len(order) + 2.0)
    axes = figure.add_subplot()
    values, rows = iou[order], range(len(order))
    axes.barh(rows, values, color=[COLORS[part[i]] for i in order], height=0.78)
    paper = dict(facecolor='white', edgecolor='none', pad=0.8)  # over the lines of the means
    for row, value in zip(rows, values, strict=True):
        axes.text(value + 0.7, row, f'{value:.1f}', va='center', fontsize=7, bbox=paper)
    axes.set_yticks(rows, [confusion.classes[i] for i in order], fontsize=8)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.grid(axis='x', color='#dddddd', linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ('top', 'right', 'left'):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis='y', length=0)
    absent = [confusion.classes[i] for i in np.flatnonzero(np.isnan(iou))]
    axes.set_xlabel('IoU, percent' + _absent_note(absent))
    if title:
        axes.set_title(title, fontweight='bold')
    axes.legend(handles=_mean_lines(axes, confusion, iou), loc='lower right', fontsize=8)
    return figure


def most_confused(confusion: Confusion, count: int = 5) -> list[tuple[str, str, float]]:
    """Find the most frequent confusions of two names.

    Args:
        confusion (Confusion): of a test.
        count (int): how many pairs are wanted. Defaults to 5.

    Returns:
        list[tuple[str, str, float]]: (true name, predicted name, percent of the true name's
        pixels), the greatest share first; the background counts as neither, pairs that never occur
        are left out.
    """
    shares = np.nan_to_num(confusion.row_percent())
    np.fill_diagonal(shares, 0)
    shares[0] = shares[:, 0] = 0
    best = np.argsort(-shares, axis=None, kind='stable')[:count]
    pairs = [tuple(int(i) for i in np.unravel_index(k, shares.shape)) for k in best]
    names = confusion.classes
    return [(names[i], names[j], float(shares[i, j])) for i, j in pairs if shares[i, j] > 0]


def _figure(width: float, height: float, dpi: int = 110) -> Figure:
    """Make an empty figure of a size in inches, without a window."""
    figure = Figure(figsize=(width, height), layout='constrained', dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def _write_shares(axes: Axes, shares: np.ndarray, size: float) -> None:
    """Write the percent of each cell that has at least one."""
    for row, column in np.argwhere(np.nan_to_num(shares) >= _LEAST_SHOWN):
        share = shares[row, column]
        ink = 'white' if share > 35 else 'black'
        axes.text(column, row, f'{share:.0f}', ha='center', va='center', fontsize=size, color=ink)


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


def _mean_lines(axes: Axes, confusion: Confusion, iou: np.ndarray) -> list[Patch]:
    """Draw the mean IoU of base and novel names; returns the entries of the legend."""
    handles = []
    for part, block in confusion.blocks().items():
        label, mean = part, mean_of(iou, np.array(block))
        if part in _MEANS and not np.isnan(mean):
            axes.axvline(mean, color=_MEANS[part], linestyle='--', linewidth=1.4, label=part)
            label = f'{part}, mean {mean:.2f}'
        handles.append(Patch(color=COLORS[part], label=label))
    return handles


def _absent_note(absent: Sequence[str]) -> str:
    """Name the classes without a figure."""
    if not absent:
        return ''
    more = f' and {len(absent) - 6} more' if absent[6:] else ''
    return '\nneither labelled nor predicted: ' + ', '.join(absent[:6]) + more
