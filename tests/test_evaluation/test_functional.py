# SPDX-License-Identifier: Apache-2.0
"""The arithmetic against plain loops over pixels, and its corner cases."""

import numpy as np
import pytest

from ovavss_mm.evaluation import functional as F


def random_maps(seed: int, num_classes: int = 6, shape=(4, 9, 11)) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and label with ignored pixels, an all-background frame and an absent class."""
    rng = np.random.RandomState(seed)
    label = rng.randint(0, num_classes - 1, shape)
    pred = np.where(rng.rand(*shape) < 0.6, label, rng.randint(0, num_classes - 1, shape))
    label[1] = 0
    label[rng.rand(*shape) < 0.1] = 255
    return pred, label


def loop_figures(pred, label, num_classes, beta2, background):
    """J and F of each class in each frame, one pixel at a time, NaN where it does not occur."""
    j, f = np.full((2, len(pred), num_classes), np.nan)
    for t in range(len(pred)):
        for c in range(0 if background else 1, num_classes):
            hit = wrong = missed = 0
            for p, g in zip(pred[t].flat, label[t].flat, strict=True):
                if g == 255 or (g == 0 and not background):
                    continue
                hit += p == c and g == c
                wrong += p == c and g != c
                missed += p != c and g == c
            if hit + wrong + missed == 0:
                continue
            j[t, c] = hit / (hit + wrong + missed)
            precision = hit / (hit + wrong) if hit else 0
            recall = hit / (hit + missed) if hit else 0
            down = beta2 * precision + recall
            f[t, c] = (1 + beta2) * precision * recall / down if down else 0
    return j, f


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('background', [True, False])
@pytest.mark.parametrize('beta2', [0.3, 1.0])
def test_frame_figures_equal_a_loop_over_pixels(seed, background, beta2):
    pred, label = random_maps(seed)
    confusion = F.frame_confusion(pred, label, 6)
    got = F.frame_j_f(confusion, beta2, background)
    for ours, loop in zip(got, loop_figures(pred, label, 6, beta2, background), strict=True):
        np.testing.assert_allclose(ours, loop, rtol=0, atol=1e-12)


def test_frame_j_f_leaves_its_input_alone():
    confusion = F.frame_confusion(*random_maps(0), 6)
    before = confusion.copy()
    F.frame_j_f(confusion, background=False)
    np.testing.assert_array_equal(confusion, before)


@pytest.mark.parametrize('seed', range(3))
def test_confusion_iou_and_accuracy_equal_a_loop(seed):
    pred, label = random_maps(seed)
    frames = F.frame_confusion(pred, label, 6)
    loop = np.zeros((6, 6), dtype=int)
    for p, g in zip(pred.flat, label.flat, strict=True):
        if g != 255:
            loop[g, p] += 1
    np.testing.assert_array_equal(frames.sum(0), loop)
    assert frames.sum((1, 2)).tolist() == [(frame != 255).sum() for frame in label]
    iou, acc = F.per_class_iou(loop), F.per_class_acc(loop)
    assert np.isnan(iou[5]) and np.isnan(acc[5])
    for c in range(5):
        assert iou[c] == loop[c, c] / (loop[c].sum() + loop[:, c].sum() - loop[c, c])
        assert acc[c] == loop[c, c] / loop[c].sum()


def test_predicted_but_never_labelled_counts_as_zero_iou_and_has_no_accuracy():
    confusion = np.array([[4, 1], [0, 0]])
    np.testing.assert_allclose(F.per_class_iou(confusion), [0.8, 0.0])
    assert np.isnan(F.per_class_acc(confusion)[1])


def test_frequency_weights_are_shares_of_all_labelled_pixels():
    confusion = np.array([[6, 2, 0], [0, 4, 0], [2, 0, 2]])
    iou = F.per_class_iou(confusion)
    assert F.freqw_acc(confusion) == pytest.approx((8 * iou[0] + 4 * iou[1] + 4 * iou[2]) / 16)
    assert F.freqw_acc(confusion, np.array([2])) == pytest.approx(4 * iou[2] / 16)
    assert F.overall_acc(confusion) == 12 / 16
    assert F.overall_acc(confusion, np.array([0, 2])) == 8 / 12


def test_means_over_nothing_are_nan():
    assert np.isnan(F.mean_of(np.array([np.nan, 1.0]), np.array([0])))
    assert np.isnan(F.mean_of(np.array([1.0]), np.array([], dtype=int)))
    assert np.isnan(F.overall_acc(np.zeros((2, 2), dtype=int)))
    assert np.isnan(F.freqw_acc(np.zeros((2, 2), dtype=int)))


@pytest.mark.parametrize(('a', 'b', 'expected'), [(0.5, 0.5, 0.5), (0.2, 0.6, 0.3), (0.0, 0.7, 0.0), (0.0, 0.0, 0.0)])
def test_harmonic_mean(a, b, expected):
    assert F.harmonic_mean(a, b) == pytest.approx(expected)
    assert np.isnan(F.harmonic_mean(float('nan'), b))


def test_false_positives_are_in_labelled_all_background_frames_only():
    label = np.zeros((5, 2, 3), dtype=int)
    label[1, 0, 0] = 2  # sounds
    label[2] = 255  # no label
    label[3, 0] = 255  # half labelled, still silent
    pred = np.zeros_like(label)
    pred[0, 0, :2] = 1
    pred[1] = pred[2] = 1
    pred[3, 0] = 1  # on ignored pixels: nothing wrong there
    found = F.false_positives(F.frame_confusion(pred, label, 3))
    assert found.tolist() == [[2, 6], [0, 3], [0, 6]]


def test_false_positives_of_a_clip_whose_visible_objects_are_not_heard():
    label = np.zeros((4, 2, 3), dtype=int)
    label[1, 0, 0] = 2
    label[2] = 255  # no label: no frame
    label[3, 0] = 255  # three pixels, one of which has a name
    label[3, 1, 0] = 1
    pred = np.zeros_like(label)
    pred[0, 0, 0] = 1
    pred[1, 0] = 2  # its label or not, wrong all the same
    pred[2] = 1
    pred[3, 0] = 1  # ignored
    confusion = F.frame_confusion(pred, label, 3)
    assert F.false_positives(confusion, sound_visible=False).tolist() == [[1, 6], [3, 6], [0, 3]]
    assert F.false_positives(confusion).tolist() == [[1, 6]]


def test_resize_nearest_halves_doubles_and_keeps_values():
    maps = np.arange(2 * 4 * 6).reshape(2, 4, 6)
    np.testing.assert_array_equal(F.resize_nearest(maps, (2, 3)), maps[:, ::2, ::2])
    np.testing.assert_array_equal(F.resize_nearest(maps, (8, 12)), maps.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_array_equal(F.resize_nearest(maps, (4, 6)), maps)
    assert set(F.resize_nearest(maps, (3, 5)).flat) <= set(maps.flat)


def test_confusion_names_what_is_out_of_range():
    pred, label = np.zeros((1, 2, 2), dtype=int), np.zeros((1, 2, 2), dtype=int)
    with pytest.raises(ValueError, match=r'label has indices \[7\] outside the 3 classes'):
        F.frame_confusion(pred, label + 7, 3)
    with pytest.raises(ValueError, match=r'prediction has indices \[3\]'):
        F.frame_confusion(pred + 3, label, 3)
    with pytest.raises(ValueError, match=r'\(1, 2, 2\).*\(2, 2\)'):
        F.frame_confusion(pred, label[0], 3)


def slow_boundary_f(pred, label, near):
    """Loops over pixels and all pairs of contour pixels."""

    def edge(mask):
        height, width = mask.shape
        near_by = ((0, 1), (1, 0), (1, 1))
        return [
            (y, x)
            for y, x in np.ndindex(height, width)
            if any(mask[min(y + dy, height - 1), min(x + dx, width - 1)] != mask[y, x] for dy, dx in near_by)
        ]

    ours, theirs = edge(pred), edge(label)
    if not ours or not theirs:
        return float(bool(ours) == bool(theirs))

    def share(some, others):
        return np.mean([any(np.hypot(y - v, x - u) <= near for v, u in others) for y, x in some])

    precision, recall = share(ours, theirs), share(theirs, ours)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize(('tolerance', 'near'), [(0.008, 1), (0.15, 4)])
def test_contours_equal_a_loop_over_pixels(seed, tolerance, near):
    rng = np.random.RandomState(seed)
    shape = (3, 15, 18)  # a diagonal of 23.4
    label = rng.rand(*shape) > 0.9
    pred = np.roll(label, 1, 2) ^ (rng.rand(*shape) > 0.97)
    found = F.boundary_f(pred, label, tolerance)
    expected = [slow_boundary_f(p, y, near) for p, y in zip(pred, label, strict=True)]
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(F.boundary_f(label, label, tolerance), 1)


def test_contours_of_nothing_and_of_everything():
    label = np.zeros((4, 10, 10), bool)
    label[1:3, 3:6, 3:6] = True
    label[3] = True  # a whole frame has no contour
    pred = np.zeros_like(label)
    pred[0] = label[1]
    pred[2, 3:6, 4:7] = pred[3] = True
    np.testing.assert_array_equal(F.boundary_f(pred, label), [np.nan, 0, 1, 1])
    assert F.boundary_f(label[1:2], label[3:])[0] == 0
