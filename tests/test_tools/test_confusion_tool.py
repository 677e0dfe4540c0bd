# SPDX-License-Identifier: Apache-2.0
"""The tool that draws a test's confusion matrix: what it reads, what the figures show, and two pictures."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

import published  # noqa: E402

from ovavss_mm.evaluation import OVIoUMetric  # noqa: E402
from ovavss_mm.evaluation import functional as F  # noqa: E402

tool = published.load_tool('analysis_tools/confusion.py')
PICTURES = {'confusion_matrix.png', 'class_iou.png'}
CLASSES = ('background', 'zebra', 'ant', 'yak', 'bee')
COUNTS = np.array([[900, 1, 2, 3, 94], [10, 60, 30, 0, 0], [0, 0, 0, 0, 0], [50, 0, 0, 150, 0], [7, 0, 0, 11, 2]])
ORDER = ['background', 'bee', 'yak', 'ant', 'zebra']
PARTS = dict(base_names=('yak', 'bee'), novel_names=('zebra', 'ant'))


@pytest.fixture
def confusion():
    return tool.Confusion(COUNTS, CLASSES, **PARTS)


def write(path: Path, **change) -> Path:
    """A file as the metric writes it, but for what is changed."""
    content = dict(kind='ovavss_mm confusion matrix', classes=CLASSES, counts=COUNTS.tolist(), **PARTS)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | change))
    return path


# ------------------------------------------------------------------ reading
def test_what_a_run_leaves_is_read(tmp_path, monkeypatch):
    logger = MMLogger(f'confusion-{tmp_path.name}', log_file=str(tmp_path / 'run.log'))
    monkeypatch.setattr(MMLogger, 'get_current_instance', classmethod(lambda cls: logger))
    metric = OVIoUMetric()
    metric.dataset_meta = dict(classes=CLASSES, palette=[[i] * 3 for i in range(5)], **PARTS)
    pred, label = np.random.default_rng(1).integers(0, 5, (2, 3, 8, 8))
    metric.process({}, [dict(pred_sem_seg=dict(data=pred), gt_sem_seg=dict(data=label), clip_id='c')])
    metric.evaluate(1)
    found = tool.read_confusion(tool.newest_confusion(tmp_path))
    assert (found.classes, found.base_names, found.novel_names) == (CLASSES, *PARTS.values())
    np.testing.assert_array_equal(found.counts, F.frame_confusion(pred, label, 5).sum(0))


def test_order_is_background_base_novel_other_each_by_name():
    classes = (*CLASSES, 'cow')
    blocks = tool.Confusion(np.zeros((6, 6), int), classes, **PARTS).blocks()
    assert list(blocks) == ['background', 'base', 'novel', 'other']
    named = {part: [classes[i] for i in block] for part, block in blocks.items()}
    assert named['base'] == ['bee', 'yak'] and named['novel'] == ['ant', 'zebra']
    assert named['background'] == ['background'] and named['other'] == ['cow']


def test_rows_add_up_to_hundred_or_are_absent(confusion):
    shares = confusion.row_percent()
    assert np.isnan(shares[2]).all()
    np.testing.assert_allclose(np.delete(shares, 2, 0).sum(1), 100)
    assert shares[4, 3] == pytest.approx(55)


def test_the_newest_run_counts(tmp_path):
    (tmp_path / '20260103_000000').mkdir()
    write(tmp_path / '20260101_000000/confusion.json')
    newest = write(tmp_path / '20260102_000000/confusion.json')
    for path in (tmp_path, newest.parent, newest):
        assert tool.newest_confusion(path) == newest
    with pytest.raises(FileNotFoundError, match='has no confusion.json.*mim test ovavss_mm'):
        tool.newest_confusion(tmp_path / '20260103_000000')
    with pytest.raises(FileNotFoundError, match='no file or folder .*gone'):
        tool.newest_confusion(tmp_path / 'gone')
    own = write(tmp_path / 'confusion.json')
    assert tool.newest_confusion(tmp_path) == own


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(kind='else'), 'JSON of another kind'),
        (dict(classes=['background', 'a']), '2 classes need integer counts'),
        (dict(counts=[[1, 2], [3]]), 'inhomogeneous'),
        (dict(counts=(COUNTS - 5).tolist()), 'negative: -5'),
        (dict(counts=(COUNTS / 2).tolist()), 'float64'),
        (dict(classes=[*CLASSES[1:], 'background']), '"background" first'),
        (dict(base_names=['ant']), r"part the classes: \['ant'\]"),
        (dict(novel_names=['fox']), r"part the classes: \['fox'\]"),
        (dict(novel_names=None), 'not iterable'),
        (dict(classes=['background', 1, 2, 3, 4], base_names=[], novel_names=[]), 'classes must be distinct'),
    ],
    ids=['kind', 'size', 'ragged', 'negative', 'float', 'order', 'both', 'unknown', 'null', 'numbers'],
)
def test_damaged_files_are_named(tmp_path, change, message):
    path = write(tmp_path / 'x.json', **change)
    with pytest.raises(ValueError, match=f'x.json is no confusion matrix of a run: .*{message}'):
        tool.read_confusion(path)


@pytest.mark.parametrize('content', [b'', b'\xff\x00', b'[1]', b'{"mIoU": 3}', b'{"kind":'])
def test_foreign_files_are_named(tmp_path, content):
    (tmp_path / 'x.json').write_bytes(content)
    with pytest.raises(ValueError, match='x.json is no confusion matrix of a run'):
        tool.read_confusion(tmp_path / 'x.json')


# ------------------------------------------------------------------ figures
def many(size: int) -> object:
    """A matrix of this many classes."""
    names = tuple(f'name-{i:02}' for i in range(size - 1))
    counts = np.random.default_rng(0).integers(0, 9, (size, size)) + 50 * np.eye(size, dtype=int)
    return tool.Confusion(counts, ('background', *names), names[::2], names[1::2])


def labels(ticks) -> list[str]:
    """The texts of an axis."""
    return [tick.get_text() for tick in ticks]


def test_matrix_has_the_classes_in_order_and_rows_in_percent(confusion):
    axes = tool.draw_confusion(confusion).axes[0]
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
    axes = tool.draw_confusion(confusion).axes[0]
    written = {t.get_position(): t.get_text() for t in axes.texts if t.get_text().isdigit()}
    column, row = ORDER.index('ant'), ORDER.index('zebra')
    assert written[column, row] == '30' and written[row, row] == '60'
    assert written[1, 0] == '9' and (3, 0) not in written  # 94 and 2 of 1000
    assert not [place for place in written if place[1] == ORDER.index('ant')]


def test_blocks_are_parted_and_named(confusion):
    axes = tool.draw_confusion(confusion, 'a title').axes[0]
    lines = [line.get_xydata() for line in axes.lines]
    assert sorted({line[0][1] for line in lines if line[0][1] == line[1][1]}) == [0.5, 2.5]
    assert sorted({line[0][0] for line in lines if line[0][0] == line[1][0]}) == [0.5, 2.5]
    names = {t.get_text(): t.get_position() for t in axes.texts if not t.get_text().isdigit()}
    assert names['base'][1] == 1.5 and names['novel'][1] == 3.5
    assert axes.get_title() == 'a title'


@pytest.mark.parametrize('size', [21, 71])
def test_every_name_has_room(size):
    figure = tool.draw_confusion(many(size))
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
    axes = tool.draw_class_iou(confusion).axes[0]
    iou = 100 * F.per_class_iou(COUNTS)
    order = np.argsort(-iou)
    assert labels(axes.get_yticklabels()) == [CLASSES[i] for i in order]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], iou[order])
    parts = dict(zebra='novel', ant='novel', yak='base', bee='base', background='background')
    for i, bar in zip(order, axes.patches, strict=True):
        assert np.allclose(bar.get_facecolor()[:3], rgb(tool.COLORS[parts[CLASSES[i]]]))
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
    axes = tool.draw_class_iou(tool.Confusion(counts, CLASSES, **PARTS)).axes[0]
    assert 'ant' not in labels(axes.get_yticklabels())
    assert axes.get_xlabel().endswith('neither labelled nor predicted: ant')
    with pytest.raises(ValueError, match='no pixel'):
        tool.draw_class_iou(tool.Confusion(counts * 0, CLASSES, (), ()))


def test_most_confused(confusion):
    pairs = tool.most_confused(confusion, 3)
    assert pairs == [('bee', 'yak', pytest.approx(55)), ('zebra', 'ant', pytest.approx(30))]


# ------------------------------------------------------------------ the tool
@pytest.fixture
def work_dir(tmp_path) -> Path:
    """A work dir with two tests."""
    for run, wrong in (('20260101_000000', 1), ('20260102_000000', 3)):
        names = dict(classes=('background', 'ant', 'bee'), base_names=('ant',), novel_names=('bee',))
        write(tmp_path / 'work' / run / 'confusion.json', counts=[[10, 0, 0], [0, 6, 0], [0, wrong, 9]], **names)
    return tmp_path / 'work'


def test_newest_run_of_a_work_dir(work_dir, capsys):
    tool.main([str(work_dir)])
    newest = work_dir / '20260102_000000'
    assert {path.name for path in newest.iterdir()} == {tool.FILE_NAME, *PICTURES}
    assert {path.name for path in (work_dir / '20260101_000000').iterdir()} == {tool.FILE_NAME}
    out = capsys.readouterr().out
    assert f'from {newest / tool.FILE_NAME}: 28 pixels' in out and 'bee as ant: 25.0' in out
    for name in PICTURES:
        with Image.open(newest / name) as image:
            assert min(image.size) > 200


def test_a_file_and_another_folder(work_dir, tmp_path, capsys):
    out_dir = tmp_path / 'new' / 'pictures'
    tool.main([str(work_dir / '20260101_000000' / tool.FILE_NAME), '--out-dir', str(out_dir)])
    assert {path.name for path in out_dir.iterdir()} == PICTURES
    assert 'bee as ant: 10.0' in capsys.readouterr().out


@pytest.mark.parametrize('content', [None, '{"mIoU": 50.0}', 'text'], ids=['none', 'json', 'text'])
def test_missing_and_foreign_files(tmp_path, content):
    path = tmp_path / 'result.json'
    if content is not None:
        path.write_text(content)
    match = 'error: there is no file' if content is None else 'error: .*result.json is no confusion'
    with pytest.raises(SystemExit, match=match):
        tool.main([str(path)])
    with pytest.raises(SystemExit, match='error: .* has no confusion.json'):
        tool.main([str(tmp_path)])
