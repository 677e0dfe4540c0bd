# SPDX-License-Identifier: Apache-2.0
"""The figures of a test show the numbers they should, in the order they should."""

import numpy as np
import pytest

import ovavss_mm  # noqa: F401
from ovavss_mm.evaluation import functional as F
from ovavss_mm.evaluation.confusion import Confusion
from ovavss_mm.visualization.confusion import COLORS, draw_class_iou, draw_confusion, most_confused

CLASSES = ('background', 'zebra', 'ant', 'yak', 'bee')
COUNTS = np.array([[900, 1, 2, 3, 94], [10, 60, 30, 0, 0], [0, 0, 0, 0, 0], [50, 0, 0, 150, 0], [7, 0, 0, 11, 2]])
ORDER = ['background', 'bee', 'yak', 'ant', 'zebra']


@pytest.fixture
def confusion() -> Confusion:
    return Confusion(COUNTS, CLASSES, ('yak', 'bee'), ('zebra', 'ant'))


def many(size: int) -> Confusion:
    """A matrix of this many classes."""
    names = tuple(f'name-{i:02}' for i in range(size - 1))
    counts = np.random.default_rng(0).integers(0, 9, (size, size)) + 50 * np.eye(size, dtype=int)
    return Confusion(counts, ('background', *names), names[::2], names[1::2])


def labels(ticks) -> list[str]:
    """The texts of an axis."""
    return [tick.get_text() for tick in ticks]


def test_matrix_has_the_classes_in_order_and_rows_in_percent(confusion):
    axes = draw_confusion(confusion).axes[0]
    assert labels(axes.get_xticklabels()) == labels(axes.get_yticklabels()) == ORDER
    assert axes.get_xlabel() == 'predicted' and axes.get_ylabel() == 'true'
    index = [CLASSES.index(name) for name in ORDER]
    drawn = axes.images[0].get_array()
    for row, i in enumerate(index):
        if COUNTS[i].sum() == 0:
            assert drawn.mask[row].all()
        else:
            expected = 100 * COUNTS[i, index] / COUNTS[i].sum()
            np.testing.assert_allclose(drawn[row], expected)


def test_numbers_stand_in_their_cells(confusion):
    axes = draw_confusion(confusion).axes[0]
    written = {t.get_position(): t.get_text() for t in axes.texts if t.get_text().isdigit()}
    column, row = ORDER.index('ant'), ORDER.index('zebra')
    assert written[column, row] == '30' and written[row, row] == '60'
    assert written[1, 0] == '9' and (3, 0) not in written  # 94 and 2 of 1000
    assert not [place for place in written if place[1] == ORDER.index('ant')]


def test_blocks_are_parted_and_named(confusion):
    axes = draw_confusion(confusion, 'a title').axes[0]
    lines = [line.get_xydata() for line in axes.lines]
    assert sorted({line[0][1] for line in lines if line[0][1] == line[1][1]}) == [0.5, 2.5]
    assert sorted({line[0][0] for line in lines if line[0][0] == line[1][0]}) == [0.5, 2.5]
    names = {t.get_text(): t.get_position() for t in axes.texts if not t.get_text().isdigit()}
    assert names['base'][1] == 1.5 and names['novel'][1] == 3.5
    assert axes.get_title() == 'a title'


@pytest.mark.parametrize('size', [21, 71])
def test_every_name_has_room(size):
    figure = draw_confusion(many(size))
    figure.canvas.draw()
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        boxes = [tick.get_window_extent() for tick in axis.get_ticklabels()]
        assert len(boxes) == size
        gaps = [
            min(a.x1, b.x1) - max(a.x0, b.x0) <= 0 or min(a.y1, b.y1) - max(a.y0, b.y0) <= 0
            for a, b in zip(boxes, boxes[1:], strict=False)
        ]
        assert all(gaps)


def test_bars_are_sorted_coloured_and_have_the_means(confusion):
    axes = draw_class_iou(confusion).axes[0]
    iou = 100 * F.per_class_iou(COUNTS)
    order = np.argsort(-iou)
    assert labels(axes.get_yticklabels()) == [CLASSES[i] for i in order]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], iou[order])
    parts = dict(zebra='novel', ant='novel', yak='base', bee='base', background='background')
    for i, bar in zip(order, axes.patches, strict=True):
        assert np.allclose(bar.get_facecolor()[:3], rgb(COLORS[parts[CLASSES[i]]]))
    means = {line.get_label(): line.get_xdata()[0] for line in axes.lines}
    assert means == {'base': iou[[3, 4]].mean(), 'novel': iou[[1, 2]].mean()}
    legend = labels(axes.get_legend().get_texts())
    assert f'base, mean {means["base"]:.2f}' in legend


def rgb(color: str) -> list[float]:
    """A hexadecimal colour in 0..1."""
    return [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def test_classes_that_never_occur_are_named_below():
    counts = COUNTS.copy()
    counts[:, 2] = 0
    confusion = Confusion(counts, CLASSES, ('yak', 'bee'), ('zebra', 'ant'))
    axes = draw_class_iou(confusion).axes[0]
    assert 'ant' not in labels(axes.get_yticklabels())
    assert axes.get_xlabel().endswith('neither labelled nor predicted: ant')
    with pytest.raises(ValueError, match='no pixel'):
        draw_class_iou(Confusion(counts * 0, CLASSES, (), ()))


def test_most_confused(confusion):
    pairs = most_confused(confusion, 3)
    assert pairs == [('bee', 'yak', pytest.approx(55)), ('zebra', 'ant', pytest.approx(30))]
