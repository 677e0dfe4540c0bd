# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from ovavss_mm.datasets import AffineClip, CropClip
from ovavss_mm.datasets.samplers import seeded_rng


def clip(t: int = 3, h: int = 40, w: int = 60) -> dict:
    """Frames that are bright where, and only where, the label is 7; the last one has no label."""
    maps = np.zeros((t, h, w), np.uint8)
    maps[:, 10:30, 20:45] = 7
    imgs = np.repeat((maps[..., None] > 0) * np.uint8(250), 3, axis=-1)
    maps[-1] = 255
    return dict(imgs=imgs, gt_seg_maps=maps, img_shape=(h, w))


def test_crop_is_in_the_middle_or_anywhere():
    results = CropClip(20)(clip())
    assert results['img_shape'] == (20, 20) and results['gt_seg_maps'].shape == (3, 20, 20)
    assert np.array_equal(results['imgs'], clip()['imgs'][:, 10:30, 20:40])
    np.random.seed(0)
    seen = {CropClip(20, random=True)(clip())['imgs'].tobytes() for _ in range(20)}
    assert len(seen) > 10
    assert CropClip(50)(clip())['imgs'].shape == (3, 40, 50, 3), 'a shorter side stays as it is'
    with pytest.raises(ValueError, match='at least 1, got 0'):
        CropClip(0)


def test_affine_moves_frames_and_labels_alike():
    seen = set()
    for seed in range(5):
        with seeded_rng(seed, 0):
            results = AffineClip()(clip())
        labels, imgs = results['gt_seg_maps'], results['imgs']
        assert imgs.shape == (3, 40, 60, 3) and labels.dtype == imgs.dtype == np.uint8
        assert np.array_equal(labels[:2] == 7, imgs[:2, ..., 0] == 250)
        assert set(np.unique(labels[:2])) == {0, 7} and (labels[2] == 255).all()
        assert np.array_equal(imgs[0], imgs[1]), 'one draw a clip'
        seen.add(imgs.tobytes())
    assert len(seen) == 5
    with seeded_rng(4, 0):
        assert AffineClip()(clip())['imgs'].tobytes() == imgs.tobytes(), 'the draw follows from the seed of the clip'


def test_affine_of_nothing_changes_nothing():
    results = AffineClip(degrees=0, scale=(1, 1), shear=0)(clip())
    assert np.array_equal(results['imgs'], clip()['imgs'])
    unlabelled = {key: value for key, value in clip().items() if key != 'gt_seg_maps'}
    assert 'gt_seg_maps' not in AffineClip()(unlabelled)
