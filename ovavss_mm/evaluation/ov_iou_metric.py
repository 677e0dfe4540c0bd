# SPDX-License-Identifier: Apache-2.0
"""Base, novel and harmonic mean IoU over a whole split."""

import json
import logging
import math
import os.path as osp
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from mmseg.registry import METRICS
from PIL import Image
from prettytable import PrettyTable

from ..utils.files import atomic_path, write_atomic
from . import functional as F
from .other_sounds import OWN, false_positive_rates, part_by_sound

_SUMMARY = {
    'Base': 'base_mIoU',
    'Novel': 'novel_mIoU',
    'Harmonic': 'harmonic_mIoU',
    'mIoU': 'mIoU',
    'mIoU no bg': 'mIoU_no_bg',
    'mAcc': 'mAcc',
    'overall': 'overall_acc',
    'freqw': 'freqw_acc',
    'J frame': 'J_frame',
    'F frame': 'F_frame',
    'silent px FPR': 'silent_pixel_fpr',
    'silent frame FPR': 'silent_frame_fpr',
}

_OTHER = {key: _SUMMARY[key] for key in ('Base', 'Novel', 'Harmonic', 'silent px FPR', 'silent frame FPR')}
_OTHER |= {'FPR': 'FPR', 'kept': 'kept'}


@METRICS.register_module()
class OVIoUMetric(BaseMetric):
    """Open-vocabulary IoU: base, novel and harmonic, with per-frame J and F.

    One confusion matrix covers the whole split, so nothing depends on batch size, clip order or number of processes.
    All figures are in percent; a figure that no class or frame defines is NaN. A class that is neither labelled nor
    predicted anywhere is left out of every mean.

    ========================= =================================================================
    key                       meaning
    ========================= =================================================================
    ``mIoU``                  mean IoU, the background counted (as published)
    ``mIoU_no_bg``            mean IoU of the names alone
    ``{base,novel}_mIoU``     mean IoU of the base and of the novel names, without background
    ``harmonic_mIoU``         harmonic mean of these two
    ``mAcc``                  mean over labelled classes of the share of pixels that is right
    ``overall_acc``           share of labelled pixels that is right
    ``freqw_acc``             IoU weighted by the share of labelled pixels
    ``*_mAcc`` etc.           base, novel, harmonic of the three above
    ``J_frame``, ``F_frame``  per-frame IoU and F of each class in the frames where label or
                              prediction has it, mean over these frames, then over classes;
                              every pixel counts, and the background is one of the classes
    ``{J,F}_frame_no_bg``     the same with the pixels labelled background left out
    ``silent_pixel_fpr``      in frames in which no visible object sounds (labelled, and all
                              background): share of the pixels given a name
    ``silent_frame_fpr``      of these frames, the share that have such a pixel
    ``boundary_f``            with ``boundary``: F of the contours of what sounds, whatever its name,
                              mean over the frames in which an object is labelled
    ``IoU/<class>``           IoU of a class that occurs
    ========================= =================================================================

    A clip may come with other sound than its own: :class:`SwapClipAudio` says which in its metainfo ``sound``, and
    ``sound_visible=False`` where nothing visible sounds any more. Then rates count all of its frames that have labelled
    pixels: of these pixels, whatever their label, every one that is given a name is wrong. Pixels with
    ``ignore_index``, and frames with no others, count there neither way, as everywhere. All other figures still compare
    with the clip's own labels: the higher they stay, the less the model uses the sound.

    Where clips come with several sounds (``dataset.sounds``), the figures above are those with their own sound, 'own'.
    Of each other one, keys begin with its name and a slash, as in ``noise/silent_frame_fpr``:

    ======================================= ==========================================================
    key                                     meaning
    ======================================= ==========================================================
    ``base_mIoU``, ``novel_mIoU``,          as above
    ``harmonic_mIoU``, ``silent_pixel_fpr``,
    ``silent_frame_fpr``
    ``FPR``                                 where nothing visible sounds: the false positive rate of
                                            AVSBench-Robust, the share of the picture that is given a
                                            name, mean over frames
    ``kept``                                where it still sounds: ``harmonic_mIoU`` as a share of that
                                            with the clips' own sound
    ======================================= ==========================================================

    Args:
        eval_size (tuple[int, int], optional): (H, W) in pixels to which prediction and label are both resized, by
            nearest neighbour, before counting; None counts them as they are. Defaults to None.
        ignore_index (int): label of the pixels, or whole frames, that count nowhere. Defaults to 255.
        beta2 (float): beta squared of F. Defaults to 0.3.
        output_dir (str, optional): where predicted label maps are saved as palette PNG files,
            ``<output_dir>/<subset>/<clip_id>/<frame>.png``, at the size predicted, with another sound than their own
            below a folder of its name; None: not saved. Defaults to None.
        save_confusion (bool): whether the confusion matrix is left beside the run's log, if it has one, as
            ``confusion.json`` (``confusion_<prefix>.json`` with a prefix): ``counts`` (C, C), rows labels, columns
            predictions, ``classes``, ``base_names`` and ``novel_names``. The last evaluation of a run counts. Defaults
            to True.
        boundary (bool): whether ``boundary_f`` is measured, see :func:`.functional.boundary_f`. Defaults to False.
        collect_device (str): 'cpu' or 'gpu', how results of several processes are collected. Defaults to 'cpu'.
        prefix (str, optional): put before each key, with a slash. Defaults to None.
    """

    def __init__(
        self,
        eval_size: tuple[int, int] | None = None,
        ignore_index: int = 255,
        beta2: float = 0.3,
        output_dir: str | None = None,
        save_confusion: bool = True,
        boundary: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if eval_size is not None and (len(eval_size) != 2 or any(not isinstance(s, int) or s < 1 for s in eval_size)):
            raise ValueError(f'eval_size must be None or two positive integers, got {eval_size!r}')
        if not beta2 > 0:
            raise ValueError(f'beta2 must be positive, got {beta2!r}')
        self.eval_size = None if eval_size is None else tuple(eval_size)
        self.ignore_index = ignore_index
        self.beta2 = beta2
        self.output_dir = output_dir
        self.save_confusion, self.boundary = save_confusion, boundary

    # ------------------------------------------------------------------ per batch
    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of each clip.

        Args:
            data_batch (Any): not used.
            data_samples (Sequence[dict]): one dict a clip, with ``pred_sem_seg.data`` and ``gt_sem_seg.data`` integer
                (T, H, W) of the same shape, and ``clip_id``; ``subset`` and ``frame_paths`` name the saved maps;
                ``sound_visible`` (default True) as in the class docstring.

        Raises:
            KeyError: prediction or label is missing.
            ValueError: the shapes differ, an index is outside the classes, or the names are others.
        """
        classes = self._classes()
        for sample in data_samples:
            clip = sample.get('clip_id', '?')
            pred, label = (self._map_of(sample, key) for key in ('pred_sem_seg', 'gt_sem_seg'))
            if pred.shape != label.shape:
                raise ValueError(
                    f'clip {clip}: prediction has shape {pred.shape}, label {label.shape}; both '
                    'must be (T, H, W) at the original frame size'
                )
            vocabulary = sample.get('vocabulary')
            if vocabulary is not None and tuple(vocabulary) != classes[1:]:
                raise ValueError(
                    f'clip {clip}: predicted with a vocabulary of {len(vocabulary)} names that is '
                    f'not the {len(classes) - 1} classes of the evaluation, in their order'
                )
            if self.output_dir is not None:
                self._save(sample, pred)
            if self.eval_size is not None:
                pred, label = (F.resize_nearest(m, self.eval_size) for m in (pred, label))
            try:
                counts = F.frame_confusion(pred, label, len(classes), self.ignore_index)
            except ValueError as err:
                raise ValueError(f'clip {clip}: {err}') from err
            # Few pairs occur in a clip: keep only these, it is what travels between processes.
            index = np.flatnonzero(counts)
            result = dict(num_frames=len(label), index=index, count=counts.reshape(-1)[index])
            if self.boundary:
                valid = label != self.ignore_index
                result['boundary'] = F.boundary_f((pred > 0) & valid, (label > 0) & valid)
            heard = dict(sound=sample.get('sound', OWN), sound_visible=bool(sample.get('sound_visible', True)))
            self.results.append(dict(result, **heard))

    def _map_of(self, sample: dict, key: str) -> np.ndarray:
        """Label map of a sample, int64 (T, H, W)."""
        if key not in sample or 'data' not in sample[key]:
            raise KeyError(f'clip {sample.get("clip_id", "?")}: no {key}.data; it has {sorted(sample)}')
        data = sample[key]['data']
        data = data.cpu().numpy() if isinstance(data, torch.Tensor) else np.asarray(data)
        if data.ndim != 3:
            raise ValueError(f'clip {sample.get("clip_id", "?")}: {key} must be (T, H, W), got {data.shape}')
        return data.astype(np.int64)

    def _save(self, sample: dict, pred: np.ndarray) -> None:
        """Save the predicted maps of a clip."""
        clip, subset = str(sample.get('clip_id', '')), str(sample.get('subset') or '')
        sound = sample.get('sound', OWN)
        if not clip or any(osp.basename(p) != p or p == '..' for p in (clip, subset, sound)):
            raise ValueError(f'cannot save predictions: clip_id {clip!r} (subset {subset!r}) is no folder name')
        if pred.max(initial=0) > 255:
            raise ValueError(f'clip {clip}: PNG files hold labels up to 255, got {pred.max()}')
        folder = osp.join(self.output_dir, '' if sound == OWN else sound, subset, clip)
        paths = sample.get('frame_paths') or [str(i) for i in range(len(pred))]
        if len(paths) != len(pred):
            raise ValueError(f'clip {clip}: {len(pred)} frames predicted, {len(paths)} frame_paths')
        palette = np.asarray(self._dataset_meta.get('palette') or [], dtype=np.uint8)
        for frame, path in zip(pred, paths, strict=True):
            image = Image.fromarray(frame.astype(np.uint8))
            if palette.size:
                image.putpalette(palette.reshape(-1).tolist())
            target = osp.join(folder, osp.splitext(osp.basename(path))[0] + '.png')
            with atomic_path(target) as beside:
                image.save(beside)

    # ------------------------------------------------------------------ whole split
    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the metrics of the class docstring from the counts of all clips.

        Args:
            results (list[dict]): one dict a clip as ``process`` appends them.

        Returns:
            dict[str, float]: Figures in percent by name.

        Raises:
            ValueError: there is no clip, or no labelled pixel in any.
        """
        classes = self._classes()
        main, others = part_by_sound(results)
        confusion, rates = _accumulate(main, len(classes))
        if confusion.sum() == 0:
            raise ValueError(
                f'OVIoUMetric has nothing to evaluate: none of the {len(main)} clips has a '
                f'labelled pixel (all are {self.ignore_index})'
            )
        iou, acc = F.per_class_iou(confusion), F.per_class_acc(confusion)
        fractions, frames = self._means(confusion, iou, acc), self._frame_means(main, len(classes))
        fractions.update({key: F.mean_of(values) for key, values in frames.items()})
        fractions.update(silent_pixel_fpr=rates['silent_pixel_fpr'], silent_frame_fpr=rates['silent_frame_fpr'])
        if self.boundary:
            values = np.concatenate([result['boundary'] for result in main])[:, None]
            fractions['boundary_f'] = float(_mean_over_frames(values)[0])
        fractions.update({f'IoU/{classes[i]}': iou[i] for i in np.flatnonzero(~np.isnan(iou))})
        for sound, group in others.items():
            found = self._of_other_sound(group, fractions['harmonic_mIoU'])
            fractions.update({f'{sound}/{key}': value for key, value in found.items()})
        metrics = {key: 100.0 * float(value) for key, value in fractions.items()}
        self._log(metrics, dict(IoU=iou, Acc=acc, **frames), list(others))
        if self.save_confusion:
            self._write_confusion(confusion)
        return metrics

    def _of_other_sound(self, results: list[dict], own: float) -> dict[str, float]:
        """Figures of clips with another sound, of which ``own`` is the harmonic mIoU with their own."""
        confusion, found = _accumulate(results, len(self._classes()))
        means = self._means(confusion, F.per_class_iou(confusion), F.per_class_acc(confusion))
        found |= {key: means[key] for key in ('base_mIoU', 'novel_mIoU', 'harmonic_mIoU')}
        if results[0]['sound_visible']:
            del found['FPR']
            found['kept'] = found['harmonic_mIoU'] / own if own else float('nan')
        return found

    def _frame_means(self, results: list[dict], num_classes: int) -> dict[str, np.ndarray]:
        """Means of J and F over the frames, (C,) each."""
        values = {k: [] for k in ('J_frame', 'F_frame', 'J_frame_no_bg', 'F_frame_no_bg')}
        for result in results:
            for suffix, background in (('', True), ('_no_bg', False)):
                j, f = F.frame_j_f(_counts(result, num_classes), self.beta2, background)
                values[f'J_frame{suffix}'].append(j)
                values[f'F_frame{suffix}'].append(f)
        return {key: _mean_over_frames(np.concatenate(v)) for key, v in values.items()}

    def _means(self, confusion: np.ndarray, iou: np.ndarray, acc: np.ndarray) -> dict[str, float]:
        """Means over all classes, base and novel ones, and their harmonic means."""
        base, novel = self._split_indices()
        measures = {
            'mIoU': lambda indices: F.mean_of(iou, indices),
            'mAcc': lambda indices: F.mean_of(acc, indices),
            'overall_acc': lambda indices: F.overall_acc(confusion, indices),
            'freqw_acc': lambda indices: F.freqw_acc(confusion, indices),
        }
        out = {}
        for key, measure in measures.items():
            out[key] = measure(None)
            out[f'base_{key}'], out[f'novel_{key}'] = measure(base), measure(novel)
            out[f'harmonic_{key}'] = F.harmonic_mean(out[f'base_{key}'], out[f'novel_{key}'])
        out['mIoU_no_bg'] = F.mean_of(iou[1:])
        return out

    def _write_confusion(self, counts: np.ndarray) -> None:
        """Write the confusion matrix beside the log file of the run, if it has one."""
        log_file = MMLogger.get_current_instance().log_file
        if log_file is None:
            return
        name = f'confusion_{self.prefix}.json' if self.prefix else 'confusion.json'
        path = osp.join(osp.dirname(log_file), name.replace('/', '_'))
        content: dict[str, Any] = {
            key: list(self._dataset_meta[key]) for key in ('classes', 'base_names', 'novel_names')
        }
        content |= dict(kind='ovavss_mm confusion matrix', counts=counts.tolist())
        try:
            write_atomic(path, json.dumps(content))
        except OSError as error:  # the figures are worth more than the picture of them
            print_log(f'the confusion matrix was not written to {path}: {error}', 'current', logging.WARNING)

    # ------------------------------------------------------------------ classes and tables
    def _classes(self) -> tuple[str, ...]:
        """Class names, the background first; ValueError if the metainfo lacks some."""
        meta = self._dataset_meta or {}
        missing = [k for k in ('classes', 'base_names', 'novel_names') if meta.get(k) is None]
        if missing:
            raise ValueError(
                f'dataset_meta lacks {missing}: OVIoUMetric takes its classes from the dataset; '
                'give it the metainfo of AVSBenchOVDataset'
            )
        classes = tuple(meta['classes'])
        if not classes or classes[0] != 'background':
            raise ValueError(f'the first class must be "background", got {classes[:1]}')
        if 0 <= self.ignore_index < len(classes):
            raise ValueError(f'ignore_index {self.ignore_index} is one of the {len(classes)} classes')
        return classes

    def _split_indices(self) -> tuple[np.ndarray, np.ndarray]:
        """Class indices of the base and of the novel names."""
        classes = self._classes()
        base, novel = (list(self._dataset_meta[k]) for k in ('base_names', 'novel_names'))
        both, unknown = set(base) & set(novel), set(base + novel) - set(classes[1:])
        if both or unknown:
            raise ValueError(
                f'base_names and novel_names must part the classes: in both {sorted(both)[:5]}, '
                f'not a class {sorted(unknown)[:5]}'
            )
        index = {name: i for i, name in enumerate(classes)}
        first, second = (np.array([index[n] for n in part], dtype=np.int64) for part in (base, novel))
        return first, second

    def _log(self, metrics: dict[str, float], per_class: dict[str, np.ndarray], sounds: Sequence[str]) -> None:
        """Log the summary, the table of the other sounds, and that of the classes."""
        summary = PrettyTable(list(_SUMMARY))
        summary.add_row([_percent(metrics[key]) for key in _SUMMARY.values()])
        print_log('summary, in percent:\n' + summary.get_string(), logger='current')
        if sounds:
            table = PrettyTable(['sound', *_OTHER])
            for sound in sounds:
                table.add_row([sound, *(_percent(metrics.get(f'{sound}/{k}', math.nan)) for k in _OTHER.values())])
            print_log('other sounds than their own, in percent:\n' + table.get_string(), logger='current')
        base, novel = self._split_indices()
        part = {**dict.fromkeys(base, 'base'), **dict.fromkeys(novel, 'novel')}
        columns = ('IoU', 'Acc', 'J_frame', 'F_frame')
        table = PrettyTable(['class', 'part', *columns])
        table.align['class'] = 'l'
        for i, name in enumerate(self._classes()):
            figures = [_percent(100 * per_class[c][i]) for c in columns]
            table.add_row([name, part.get(i, '-'), *figures])
        print_log('per class, in percent:\n' + table.get_string(), logger='current')


def _counts(result: dict, num_classes: int) -> np.ndarray:
    """Confusion matrices (T, C, C) of a clip's frames, int64, of the counts that ``process`` keeps."""
    counts = np.zeros((result['num_frames'], num_classes, num_classes), dtype=np.int64)
    counts.reshape(-1)[result['index']] = result['count']
    return counts


def _accumulate(results: list[dict], num_classes: int) -> tuple[np.ndarray, dict[str, float]]:
    """Sums over the clips: confusion matrix (C, C), and rates of false positives."""
    confusion, wrong = np.zeros((num_classes, num_classes), dtype=np.int64), []
    for result in results:
        counts = _counts(result, num_classes)
        confusion += counts.sum(0)
        wrong.append(F.false_positives(counts, result['sound_visible']))
    return confusion, false_positive_rates(np.concatenate(wrong))


def _mean_over_frames(values: np.ndarray) -> np.ndarray:
    """Average (frames, C) over the frames that are not NaN, by exact sums, which no order of the clips changes."""
    columns = (column[~np.isnan(column)] for column in values.T)
    return np.array([math.fsum(c) / len(c) if len(c) else np.nan for c in columns])


def _percent(value: float) -> str:
    """Format with two decimals; a dash for NaN."""
    return '-' if math.isnan(value) else f'{value:.2f}'
