# SPDX-License-Identifier: Apache-2.0
"""Metrics as pure functions on NumPy arrays.

Notation: T frames, C classes (index 0 is the background). A *confusion matrix* is int64 (C, C):
entry (i, j) counts the pixels labelled i and predicted j. A class that does not occur is NaN
and left out of means. All values are fractions in [0, 1].
"""

import numpy as np
from scipy.ndimage import distance_transform_edt


def resize_nearest(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resize label maps by nearest neighbour.

    Output pixel i reads input pixel ``floor(i * in / out)``, computed in integers.

    Args:
        maps (np.ndarray): (..., h, w), any dtype.
        size (tuple[int, int]): (H, W) of the output in pixels.

    Returns:
        np.ndarray: (..., H, W), same dtype.
    """
    height, width = size
    rows = np.arange(height) * maps.shape[-2] // height
    cols = np.arange(width) * maps.shape[-1] // width
    return maps[..., rows[:, None], cols[None, :]]


def frame_confusion(pred: np.ndarray, label: np.ndarray, num_classes: int, ignore_index: int = 255) -> np.ndarray:
    """Count the pixels of each (label, prediction) pair, frame by frame.

    Args:
        pred (np.ndarray): integer (T, H, W), every value in [0, C).
        label (np.ndarray): integer (T, H, W), every value in [0, C) or ``ignore_index``.
        num_classes (int): C.
        ignore_index (int): label of the pixels that count nowhere. Defaults to 255.

    Returns:
        np.ndarray: int64 (T, C, C), rows are labels, columns predictions.

    Raises:
        ValueError: if the shapes differ or a value is outside the classes.
    """
    if pred.shape != label.shape or pred.ndim != 3:
        raise ValueError(f'prediction {pred.shape} and label {label.shape} must have the same (T, H, W) shape')
    valid = label != ignore_index
    for what, values in (('label', label[valid]), ('prediction', pred)):
        if values.size and (values.min() < 0 or values.max() >= num_classes):
            bad = sorted({int(v) for v in np.unique(values) if not 0 <= v < num_classes})
            raise ValueError(f'{what} has indices {bad[:8]} outside the {num_classes} classes')
    num_frames = len(label)
    frame = np.broadcast_to(np.arange(num_frames)[:, None, None], label.shape)[valid]
    pair = (frame * num_classes + label[valid]) * num_classes + pred[valid]
    counts = np.bincount(pair, minlength=num_frames * num_classes**2)
    return counts.reshape(num_frames, num_classes, num_classes)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide; NaN where the denominator is 0."""
    out = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=out, where=np.asarray(denominator) > 0)


def _areas(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intersection, predicted and labelled pixels of each class, (..., C) each."""
    inter = np.diagonal(confusion, axis1=-2, axis2=-1)
    return inter, confusion.sum(-2), confusion.sum(-1)


def per_class_iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class.

    Args:
        confusion (np.ndarray): int64 (..., C, C).

    Returns:
        np.ndarray: float64 (..., C); NaN for a class neither labelled nor predicted. A class that is predicted but
        never labelled has 0 and counts.
    """
    inter, pred, label = _areas(confusion)
    return _ratio(inter, pred + label - inter)


def per_class_acc(confusion: np.ndarray) -> np.ndarray:
    """Share of a class's labelled pixels that were predicted so.

    Args:
        confusion (np.ndarray): int64 (..., C, C).

    Returns:
        np.ndarray: float64 (..., C); NaN for a class that is never labelled.
    """
    inter, _, label = _areas(confusion)
    return _ratio(inter, label)


def mean_of(values: np.ndarray, indices: np.ndarray | None = None) -> float:
    """Mean over the classes that are not NaN.

    Args:
        values (np.ndarray): float64 (C,), NaN for absent classes.
        indices (np.ndarray, optional): classes to average; None for all. Defaults to None.

    Returns:
        float: The mean, NaN if all of the classes are.
    """
    chosen = values if indices is None else values[indices]
    chosen = chosen[~np.isnan(chosen)]
    return float(chosen.mean()) if chosen.size else float('nan')


def overall_acc(confusion: np.ndarray, indices: np.ndarray | None = None) -> float:
    """Share of correct pixels among those labelled with one of the classes.

    Args:
        confusion (np.ndarray): int64 (C, C).
        indices (np.ndarray, optional): classes whose labelled pixels count; None for all. Defaults to None.

    Returns:
        float: The share, NaN if no pixel carries such a label.
    """
    inter, _, label = _areas(confusion)
    if indices is not None:
        inter, label = inter[indices], label[indices]
    return float(_ratio(inter.sum(), label.sum()))


def freqw_acc(confusion: np.ndarray, indices: np.ndarray | None = None) -> float:
    """IoU weighted by how frequent a class's label is.

    The weight is the class's share of *all* labelled pixels, so the figure of a part of the classes is that part's
    contribution to the whole (as in the published figures).

    Args:
        confusion (np.ndarray): int64 (C, C).
        indices (np.ndarray, optional): classes to sum over; None for all. Defaults to None.

    Returns:
        float: The weighted sum, NaN if no pixel is labelled.
    """
    iou, label = np.nan_to_num(per_class_iou(confusion)), confusion.sum(1)
    weighted = iou * label
    total = weighted.sum() if indices is None else weighted[indices].sum()
    return float(_ratio(total, label.sum()))


def harmonic_mean(a: float, b: float) -> float:
    """Harmonic mean of two figures.

    Args:
        a (float): for example the mean IoU of the base names.
        b (float): for example the mean IoU of the novel names.

    Returns:
        float: ``2ab / (a + b)``; 0 if both are 0, NaN if either is NaN.
    """
    return 0.0 if a + b == 0 else 2 * a * b / (a + b)


def frame_j_f(confusion: np.ndarray, beta2: float = 0.3, background: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """J (IoU) and F of each class in each frame, as the AVSS benchmark takes them.

    A class occurs in a frame if the label or the prediction has it there. Averaging a column over the frames where it
    is not NaN gives the per-class figure of the benchmark.

    Args:
        confusion (np.ndarray): int64 (T, C, C), one matrix a frame.
        beta2 (float): weight of precision against recall in F, beta squared. Defaults to 0.3, the benchmark's.
        background (bool): True counts every pixel, and the background as a class. False leaves pixels labelled
            background out altogether, so what is predicted there counts neither way. Defaults to True.

    Returns:
        tuple[np.ndarray, np.ndarray]: J and F, float64 (T, C) each, NaN where the class does not occur in the frame.
        With ``background=False`` column 0 is all NaN.
    """
    if not background:
        confusion = confusion.copy()
        confusion[:, 0, :] = 0
    inter, pred, label = _areas(confusion)
    union = pred + label - inter
    j = _ratio(inter, union)
    # (1 + b) P R / (b P + R) with P = inter / pred and R = inter / label
    f = _ratio((1 + beta2) * inter, beta2 * label + pred)
    f[union == 0] = np.nan
    if not background:
        j[:, 0] = f[:, 0] = np.nan
    return j, f


def boundary_f(pred: np.ndarray, label: np.ndarray, tolerance: float = 0.008) -> np.ndarray:
    """F of contours, as the DAVIS benchmark takes it: a pixel of one contour is right if the other one is near.

    A contour is the pixels whose right, lower or lower right neighbour is on the other side. Precision is the share of
    the predicted contour that is right, recall that of the labelled one; F is their harmonic mean. A frame where
    neither has a contour has 1, one where only one has it 0.

    Args:
        pred (np.ndarray): bool (T, H, W).
        label (np.ndarray): bool (T, H, W).
        tolerance (float): distance that is near, as a share of the diagonal, rounded up to pixels. Defaults to 0.008.

    Returns:
        np.ndarray: float64 (T,), NaN in frames without a labelled object.
    """
    near = np.ceil(tolerance * np.hypot(*label.shape[1:]))
    values = np.full(len(label), np.nan)
    for t in np.flatnonzero(label.any((1, 2))):
        ours, theirs = contour(pred[t]), contour(label[t])
        if not (ours.any() and theirs.any()):
            values[t] = float(ours.any() == theirs.any())
            continue
        precision = (distance_transform_edt(~theirs)[ours] <= near).mean()
        recall = (distance_transform_edt(~ours)[theirs] <= near).mean()
        values[t] = harmonic_mean(precision, recall)
    return values


def contour(mask: np.ndarray) -> np.ndarray:
    """Pixels of bool (H, W) whose right, lower or lower right neighbour is on the other side."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode='edge')
    return (mask != padded[:-1, 1:]) | (mask != padded[1:, :-1]) | (mask != padded[1:, 1:])


def false_positives(confusion: np.ndarray, sound_visible: bool = True) -> np.ndarray:
    """Count false positives in the frames in which no visible object sounds.

    Such a frame has labelled pixels and all of them are background. With ``sound_visible=False`` every frame that has
    labelled pixels is one, and each of its pixels given a name is wrong, whatever its label.

    Args:
        confusion (np.ndarray): int64 (T, C, C), one matrix a frame.
        sound_visible (bool): whether the objects that the labels show were heard. Defaults to True.

    Returns:
        np.ndarray: int64 (n, 2), of each such frame its wrong pixels and its labelled pixels.
    """
    labelled = confusion.sum(-1)
    silent = labelled.sum(1) > 0
    if sound_visible:
        silent &= labelled[:, 1:].sum(1) == 0
    return np.stack([confusion[silent, :, 1:].sum((1, 2)), labelled[silent].sum(1)], axis=1)
