# SPDX-License-Identifier: Apache-2.0
"""The metric against the published one."""

import logging

import numpy as np
import torch

from ovavss_mm.evaluation import OVIoUMetric
from ovavss_mm.evaluation import functional as F

from .common import Arrays, Line, class_names, compare, register

# Names of the published metric, and ours.
_FIGURES = dict(mean_iou='mIoU', mean_acc='mAcc', overall_acc='overall_acc', freqw_acc='freqw_acc')
_PARTS = {'': '', '_seen': 'base_', '_unseen': 'novel_', '_harmonic': 'harmonic_'}
_BOUND = 1e-6


@register('metric')
def check_metric(fixture: Arrays) -> list[Line]:
    """Compare every figure.

    Args:
        fixture (Mapping[str, np.ndarray]): arrays of the file.

    Returns:
        list[Line]: a line for each figure.
    """
    logging.disable(logging.WARNING)  # the metric logs tables
    try:
        result = _evaluate(fixture)
    finally:
        logging.disable(logging.NOTSET)
    lines = [
        compare(name + part, result[prefix + ours] / 100, fixture[name + part], _BOUND)
        for name, ours in _FIGURES.items()
        for part, prefix in _PARTS.items()
    ]
    confusion = F.frame_confusion(
        *(fixture[name].astype(np.int64) for name in ('pred', 'gt')), len(class_names().names) + 1
    )
    iou = F.per_class_iou(confusion.sum(0))
    lines.append(compare('per_class_iou', iou, fixture['per_class_iou'], _BOUND))
    per_frame = F.frame_j_f(confusion, background=False)
    for name, values in zip(('avss_iou_per_class', 'avss_f_per_class'), per_frame, strict=True):
        lines.append(compare(name, _per_class(values), fixture[name], _BOUND))
    return lines


def _evaluate(fixture: Arrays) -> dict[str, float]:
    """Evaluate the fixture's videos as clips."""
    names = class_names()
    metric = OVIoUMetric()
    classes = ('background', *sorted([*names.base, *names.novel]))
    metric.dataset_meta = dict(classes=classes, base_names=names.base, novel_names=names.novel)
    ends = np.cumsum(fixture['frames_per_video'])
    for end, count in zip(ends, fixture['frames_per_video'], strict=True):
        maps = {
            key: dict(data=torch.from_numpy(fixture[array][end - count : end].astype(np.int64)))
            for key, array in (('pred_sem_seg', 'pred'), ('gt_sem_seg', 'gt'))
        }
        metric.process({}, [dict(maps, clip_id=str(end))])
    return metric.evaluate(len(ends))


def _per_class(values: np.ndarray) -> np.ndarray:
    """Mean over frames as the AVSS benchmark lists it: names first, 0 where a name is absent."""
    means = np.array([F.mean_of(column) for column in values.T])
    return np.nan_to_num(np.append(means[1:], 0.0))
