# SPDX-License-Identifier: Apache-2.0
"""J and F of the binary tasks against the benchmark's own."""

import logging

import torch

from ovavss_mm.evaluation import AVSBinaryMetric

from .common import Arrays, Line, compare, register

_BOUND = 1e-6


@register('metric_binary')
def check_metric(fixture: Arrays) -> list[Line]:
    """Compare the figures of each video, and their means."""
    logging.disable(logging.WARNING)  # the metric logs its figures
    try:
        videos = list(zip(fixture['logits'], fixture['gt'], strict=True))
        each, whole = [_evaluate([video]) for video in videos], _evaluate(videos)
    finally:
        logging.disable(logging.NOTSET)
    lines = []
    for name in ('J', 'F'):
        per_video = [figures[f'{name}_video'] / 100 for figures in each]
        lines.append(compare(f'{name}_per_video', per_video, fixture[f'{name}_per_video'], _BOUND))
        lines.append(compare(name, whole[f'{name}_video'] / 100, fixture[name], _BOUND))
    return lines


def _evaluate(videos: list) -> dict[str, float]:
    """Evaluate pairs of logits and labels (T, H, W)."""
    metric = AVSBinaryMetric()
    for logits, label in videos:
        pair = dict(seg_logits=torch.from_numpy(logits), gt_sem_seg=torch.from_numpy(label))
        metric.process({}, [{key: dict(data=value) for key, value in pair.items()}])
    return metric.evaluate(len(videos))
