# SPDX-License-Identifier: Apache-2.0
"""J and F of the binary tasks of AVSBench, S4 and MS3."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmseg.registry import METRICS

from .other_sounds import OWN, false_positive_rates, part_by_sound

NUM_THRESHOLDS = 255


@METRICS.register_module()
class AVSBinaryMetric(BaseMetric):
    """J and F of 'sounding', in percent, as the benchmark's authors count them and over the whole split.

    =========== ===========================================================================================
    key         meaning
    =========== ===========================================================================================
    ``J_video`` IoU of a frame (without object: the share of its pixels that is rightly empty), mean over
                a video's frames, then over videos: the authors' figure for one video at a time
    ``F_video`` F at the best of 255 thresholds of a video, of the mean over its frames that have an object,
                then mean over the videos that have such a frame: the authors' figure
    ``J_split`` the mean of J over all frames of the split
    ``F_split`` F at the best threshold of the split, of the mean over all its frames that have an object
    =========== ===========================================================================================

    ``J_video@x`` and ``J_split@x`` are the same of what is above x, for each threshold x other than 0.5. Rates of what
    is labelled that does not sound, ``silent_pixel_fpr`` and ``silent_frame_fpr``, and the figures of clips that come
    with other sounds than their own, ``noise/FPR`` and so on, are those of :class:`OVIoUMetric`; there is ``J_split``,
    of which ``kept`` is the share where what is visible still sounds.

    None depends on batch size, order or number of processes. Frames without annotation are left out.

    Args:
        beta2 (float): beta squared of F. Defaults to 0.3.
        ignore_index (int): label of the pixels that count nowhere. Defaults to 255.
        thresholds (Sequence[float]): of probabilities, of which J is taken; GAVS's authors have 0.4. Defaults to
            (0.5,).
        collect_device (str): as of mmengine's metrics. Defaults to 'cpu'.
        prefix (str, optional): put before each key, with a slash. Defaults to None.

    Raises:
        ValueError: ``beta2`` is not positive, or ``thresholds`` are not in [0, 1).
    """

    def __init__(
        self,
        beta2: float = 0.3,
        ignore_index: int = 255,
        thresholds: Sequence[float] = (0.5,),
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if not beta2 > 0:
            raise ValueError(f'beta2 must be positive, got {beta2!r}')
        if not thresholds or not all(0 <= x < 1 for x in thresholds):
            raise ValueError(f'thresholds must be some of [0, 1), got {thresholds!r}')
        self.beta2, self.ignore_index, self.thresholds = beta2, ignore_index, tuple(thresholds)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count each video.

        Args:
            data_batch (Any): not used.
            data_samples (Sequence[dict]): one dict a video, with ``seg_logits.data`` float (T, H, W), logits of
                'sounding', and ``gt_sem_seg.data`` integer (T, H, W), 0 or not.

        Raises:
            KeyError: logits or label are missing, as of a model that tells several classes apart.
            ValueError: their shapes differ.
        """
        for sample in data_samples:
            clip = sample.get('clip_id', '?')
            missing = [key for key in ('seg_logits', 'gt_sem_seg') if key not in sample]
            if missing:
                raise KeyError(
                    f'clip {clip} has no {" and no ".join(missing)}: AVSBinaryMetric is for dense heads of one class '
                    'on data with labels'
                )
            logits, label = (torch.as_tensor(sample[key]['data']).cpu() for key in ('seg_logits', 'gt_sem_seg'))
            if logits.shape != label.shape:
                raise ValueError(
                    f'clip {clip}: logits {tuple(logits.shape)} and label {tuple(label.shape)} are not of one shape'
                )
            frames = zip(logits.float().sigmoid().numpy(), label.numpy(), strict=True)
            frames = [(p[y != self.ignore_index], y[y != self.ignore_index] > 0) for p, y in frames]
            frames = [(p, y) for p, y in frames if len(y)]
            curves = [f_curve(p, y, self.beta2) for p, y in frames if y.any()]
            is_visible = bool(sample.get('sound_visible', True))
            wrong = [((p > 0.5).sum(), len(y)) for p, y in frames if not (is_visible and y.any())]
            heard = dict(sound=sample.get('sound', OWN), sound_visible=is_visible)
            heard['wrong'] = np.array(wrong, dtype=np.int64).reshape(-1, 2)
            j = {x: [frame_j(p, y, x) for p, y in frames] for x in self.thresholds}
            self.results.append(dict(heard, j=j, f=np.array(curves)))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """The figures of the class docstring in percent; NaN where nothing defines one."""
        results, others = part_by_sound(results)
        rates = _rates(results)
        f, figures = [r['f'] for r in results if len(r['f'])], {}
        for x in self.thresholds:
            j, at = [r['j'][x] for r in results if r['j'][x]], '' if x == 0.5 else f'@{x:g}'
            figures |= {f'J_video{at}': mean([mean(video) for video in j]), f'J_split{at}': mean(sum(j, []))}
        figures |= dict(F_video=mean([best(video) for video in f]), F_split=best(np.concatenate(f)) if f else math.nan)
        figures |= {key: rates[key] for key in ('silent_pixel_fpr', 'silent_frame_fpr')}
        x, at = self.thresholds[0], next(iter(figures)).removeprefix('J_video')
        for sound, group in others.items():
            found, own = _rates(group), figures[f'J_split{at}']
            found[f'J_split{at}'] = j = mean(sum((r['j'][x] for r in group), []))
            if group[0]['sound_visible']:
                del found['FPR']
                found['kept'] = j / own if own else math.nan
            figures |= {f'{sound}/{key}': value for key, value in found.items()}
        figures = {key: 100 * value for key, value in figures.items()}
        print_log('  '.join(f'{key} {value:.2f}' for key, value in figures.items()), 'current')
        return figures


def _rates(results: list[dict]) -> dict[str, float]:
    """Rates of false positives of some videos."""
    return false_positive_rates(np.concatenate([result['wrong'] for result in results]))


def mean(values: Sequence[float]) -> float:
    """The mean by an exact sum, which no order changes; NaN of nothing."""
    return math.fsum(values) / len(values) if len(values) else math.nan


def best(curves: np.ndarray) -> float:
    """The greatest value of the mean of curves (frames, thresholds)."""
    return max(mean(column) for column in curves.T.tolist())


def frame_j(probability: np.ndarray, label: np.ndarray, threshold: float = 0.5) -> float:
    """IoU of what is above a threshold; without object the share of pixels that is not.

    Args:
        probability (np.ndarray): float (P,), in [0, 1].
        label (np.ndarray): bool (P,).
        threshold (float): of the probability. Defaults to 0.5.
    """
    found = probability > threshold
    if not label.any():
        return float(np.mean(~found))
    return float((found & label).sum() / (found | label).sum())


def f_curve(probability: np.ndarray, label: np.ndarray, beta2: float = 0.3) -> np.ndarray:
    """F of a frame with an object at 255 thresholds from 0 to 1, what is at least the threshold being found.

    Args:
        probability (np.ndarray): float32 (P,), in [0, 1].
        label (np.ndarray): bool (P,), somewhere true.
        beta2 (float): beta squared. Defaults to 0.3.

    Returns:
        np.ndarray: float64 (255,); 0 where nothing, or nothing right, is found.
    """
    thresholds = torch.linspace(0, 1, NUM_THRESHOLDS).numpy()
    passed = np.searchsorted(thresholds, probability, side='right')  # thresholds that a pixel reaches
    # number of pixels that reach each threshold: all of them, and those of the object
    found, right = (
        np.bincount(part, minlength=NUM_THRESHOLDS + 1)[::-1].cumsum()[::-1][1:] for part in (passed, passed[label])
    )
    # (1 + b) P R / (b P + R) with P = right / found and R = right / label
    return (1 + beta2) * right / (beta2 * label.sum() + found)
