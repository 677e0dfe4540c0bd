# SPDX-License-Identifier: Apache-2.0
"""What a run leaves of its confusion matrix."""

import json

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger

import ovavss_mm  # noqa: F401
from ovavss_mm.evaluation import OVIoUMetric
from ovavss_mm.evaluation import functional as F

CLASSES = ('background', 'zebra', 'ant', 'yak', 'bee', 'cow')
PARTS = dict(base_names=('yak', 'bee'), novel_names=('zebra', 'ant'))
META = dict(classes=CLASSES, palette=[[i] * 3 for i in range(6)], **PARTS)


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


def test_a_run_leaves_its_matrix_beside_its_log(logged):
    figures, counts = evaluate()
    assert [path.name for path in logged.glob('*.json')] == ['confusion.json']
    left = json.loads((logged / 'confusion.json').read_text())
    np.testing.assert_array_equal(left['counts'], counts)
    assert tuple(left['classes']) == CLASSES
    assert {key: tuple(left[key]) for key in PARTS} == PARTS
    iou = 100 * F.per_class_iou(np.array(left['counts']))
    assert figures['mIoU'] == pytest.approx(iou.mean())
    assert figures['base_mIoU'] == pytest.approx(iou[[3, 4]].mean())


def test_a_prefix_is_in_the_name_and_it_can_be_left_out(logged):
    evaluate(prefix='novel/sound')
    assert {p.name for p in logged.glob('*.json')} == {'confusion_novel_sound.json'}
    (logged / 'confusion_novel_sound.json').unlink()
    evaluate(save_confusion=False)
    assert not list(logged.glob('*.json'))


def test_a_full_disk_costs_the_picture_only(logged, monkeypatch):
    def full(path, content):
        raise OSError('No space left')

    monkeypatch.setattr('ovavss_mm.evaluation.ov_iou_metric.write_atomic', full)
    assert 'mIoU' in evaluate()[0]
    assert 'No space left' in (logged / 'run.log').read_text()


def test_outside_a_run_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logger = MMLogger('confusion-nowhere')
    monkeypatch.setattr(MMLogger, 'get_current_instance', classmethod(lambda cls: logger))
    evaluate()
    assert not list(tmp_path.iterdir())
