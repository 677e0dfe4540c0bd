# SPDX-License-Identifier: Apache-2.0
"""The file of a confusion matrix: what a run leaves is what is read, and nothing else is."""

import json

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger

import ovavss_mm  # noqa: F401
from ovavss_mm.evaluation import OVIoUMetric
from ovavss_mm.evaluation import functional as F
from ovavss_mm.evaluation.confusion import FILE_NAME, Confusion, newest_confusion, read_confusion, write_confusion

CLASSES = ('background', 'zebra', 'ant', 'yak', 'bee', 'cow')
PARTS = dict(base_names=('yak', 'bee'), novel_names=('zebra', 'ant'))
META = dict(classes=CLASSES, palette=[[i] * 3 for i in range(6)], **PARTS)


def make(counts=None) -> Confusion:
    """A confusion matrix with invented counts."""
    if counts is None:
        counts = np.arange(36).reshape(6, 6)
    return Confusion(np.asarray(counts), CLASSES, **PARTS)


@pytest.fixture
def logged(tmp_path, monkeypatch):
    """A run's logger with a file in ``tmp_path``."""
    logger = MMLogger(f'confusion-{tmp_path.name}', log_file=str(tmp_path / 'run.log'))
    monkeypatch.setattr(MMLogger, 'get_current_instance', classmethod(lambda cls: logger))
    return tmp_path


def evaluate(**kwargs) -> tuple[dict, np.ndarray]:
    """Run the metric on two random clips; returns its figures and the true counts."""
    metric = OVIoUMetric(**kwargs)
    metric.dataset_meta = META
    rng = np.random.default_rng(1)
    counts = np.zeros((6, 6), np.int64)
    for _ in range(2):
        label, pred = rng.integers(0, 6, (2, 3, 8, 8))
        label[1] = 255
        counts += F.frame_confusion(pred, label, 6).sum(0)
        data = dict(pred_sem_seg=dict(data=pred), gt_sem_seg=dict(data=label), clip_id='c')
        metric.process({}, [{k: v if k == 'clip_id' else dict(data=torch.as_tensor(v['data']))
                             for k, v in data.items()}])  # fmt: skip
    return metric.evaluate(2), counts


def test_order_is_background_base_novel_other_each_by_name():
    blocks = make().blocks()
    assert list(blocks) == ['background', 'base', 'novel', 'other']
    named = {part: [CLASSES[i] for i in block] for part, block in blocks.items()}
    assert named['base'] == ['bee', 'yak'] and named['novel'] == ['ant', 'zebra']
    assert named['background'] == ['background'] and named['other'] == ['cow']


def test_rows_add_up_to_hundred_or_are_absent():
    counts = np.arange(36).reshape(6, 6)
    counts[2] = 0
    shares = make(counts).row_percent()
    assert np.isnan(shares[2]).all()
    np.testing.assert_allclose(np.delete(shares, 2, 0).sum(1), 100)
    assert shares[1, 3] == pytest.approx(100 * 9 / sum(range(6, 12)))


def test_what_is_written_is_read(tmp_path):
    path = str(tmp_path / 'x.json')
    write_confusion(make(), path)
    back = read_confusion(path)
    assert (back.classes, back.base_names) == (CLASSES, PARTS['base_names'])
    assert back.novel_names == PARTS['novel_names'] and back.counts.dtype.kind == 'i'
    np.testing.assert_array_equal(back.counts, make().counts)
    assert [p.name for p in tmp_path.iterdir()] == ['x.json']


def test_a_run_leaves_its_matrix_beside_its_log(logged):
    figures, counts = evaluate()
    left = read_confusion(str(logged / FILE_NAME))
    np.testing.assert_array_equal(left.counts, counts)
    iou = 100 * F.per_class_iou(left.counts)
    assert figures['mIoU'] == pytest.approx(iou.mean())
    assert figures['base_mIoU'] == pytest.approx(iou[[3, 4]].mean())


def test_a_prefix_is_in_the_name_and_it_can_be_left_out(logged):
    evaluate(prefix='novel/sound')
    assert {p.name for p in logged.glob('*.json')} == {'confusion_novel_sound.json'}
    (logged / 'confusion_novel_sound.json').unlink()
    evaluate(save_confusion=False)
    assert not list(logged.glob('*.json'))


def test_a_full_disk_costs_the_picture_only(logged, monkeypatch):
    def full(confusion, path):
        raise OSError('No space left')

    monkeypatch.setattr('ovavss_mm.evaluation.ov_iou_metric.write_confusion', full)
    assert 'mIoU' in evaluate()[0]
    assert 'No space left' in (logged / 'run.log').read_text()


def test_outside_a_run_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logger = MMLogger('confusion-nowhere')
    monkeypatch.setattr(MMLogger, 'get_current_instance', classmethod(lambda cls: logger))
    evaluate()
    assert not list(tmp_path.iterdir())


def test_the_newest_run_counts(tmp_path):
    for name in ('20260101_000000', '20260102_000000', '20260103_000000'):
        (tmp_path / name).mkdir()
    for name in ('20260101_000000', '20260102_000000'):
        write_confusion(make(), str(tmp_path / name / FILE_NAME))
    newest = str(tmp_path / '20260102_000000' / FILE_NAME)
    assert newest_confusion(str(tmp_path)) == newest
    assert newest_confusion(str(tmp_path / '20260102_000000')) == newest
    assert newest_confusion(newest) == newest
    with pytest.raises(FileNotFoundError, match='has no confusion.json.*mim test ovavss_mm'):
        newest_confusion(str(tmp_path / '20260103_000000'))
    with pytest.raises(FileNotFoundError, match='no file or folder .*gone'):
        newest_confusion(str(tmp_path / 'gone'))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(kind='else'), 'JSON of another kind'),
        (dict(classes=['background', 'a']), '2 classes need integer counts'),
        (dict(counts=[[1, 2], [3]]), 'inhomogeneous'),
        (dict(counts=(np.arange(36) - 5).reshape(6, 6).tolist()), 'negative: -5'),
        (dict(counts=(np.arange(36) / 2).reshape(6, 6).tolist()), 'float64'),
        (dict(classes=[*CLASSES[1:], 'background']), '"background" first'),
        (dict(base_names=['ant']), r"part the classes: \['ant'\]"),
        (dict(novel_names=['fox']), r"part the classes: \['fox'\]"),
        (dict(novel_names=None), 'not iterable'),
    ],
    ids=['kind', 'size', 'ragged', 'negative', 'float', 'order', 'both', 'unknown', 'null'],
)
def test_damaged_files_are_named(tmp_path, change, message):
    path = tmp_path / 'x.json'
    write_confusion(make(), str(path))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=f'x.json is no confusion matrix of a run: .*{message}'):
        read_confusion(str(path))


@pytest.mark.parametrize('content', [b'', b'\xff\x00', b'[1]', b'{"mIoU": 3}', b'{"kind":'])
def test_foreign_files_are_named(tmp_path, content):
    (tmp_path / 'x.json').write_bytes(content)
    with pytest.raises(ValueError, match='x.json is no confusion matrix of a run'):
        read_confusion(str(tmp_path / 'x.json'))
