# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from ovavss_mm.datasets import FlipClip, ResizeClip


def clip(t=3, h=24, w=32, labels=True) -> dict:
    """Frames that are bright where, and only where, the label is 7."""
    maps = np.zeros((t, h, w), np.uint8)
    for i in range(t):
        maps[i, h // 4 : h // 2, w // 8 + i : w // 2 + i] = 7
    imgs = np.repeat((maps[..., None] > 0) * np.uint8(250), 3, axis=-1)
    results = {'imgs': imgs, 'img_shape': (h, w), 'ori_shape': (h, w)}
    return results | ({'gt_seg_maps': maps} if labels else {})


@pytest.mark.parametrize(
    ('size', 'short_side', 'max_size', 'expected'),
    [
        ((24, 32), 48, None, (48, 64)),
        ((32, 24), 48, None, (64, 48)),
        ((720, 1280), 360, None, (360, 640)),
        ((100, 333), 50, None, (50, 167)),  # 166.5 goes up
        ((24, 32), 48, 60, (45, 60)),
        ((24, 32), 48, 64, (48, 64)),
        ((24, 24), 7, None, (7, 7)),
        ((1, 2000), 96, 128, (1, 128)),  # a short side of less than a pixel has one
    ],
)
def test_size(size, short_side, max_size, expected):
    results = ResizeClip(short_side, max_size)(clip(2, *size))
    assert results['imgs'].shape == (2, *expected, 3)
    assert results['gt_seg_maps'].shape == (2, *expected)
    assert results['img_shape'] == expected
    assert results['ori_shape'] == size
    assert results['scale_factor'] == (expected[1] / size[1], expected[0] / size[0])


def test_one_choice_a_clip():
    np.random.seed(0)
    resize = ResizeClip((24, 36, 48))
    seen = {resize(clip())['img_shape'] for _ in range(40)}
    assert seen == {(24, 32), (36, 48), (48, 64)}


def test_same_size_changes_nothing():
    before, after = clip(), ResizeClip(24)(clip())
    assert np.array_equal(before['imgs'], after['imgs'])
    assert np.array_equal(before['gt_seg_maps'], after['gt_seg_maps'])


@pytest.mark.parametrize('short_side', [12, 16, 37, 60])
@pytest.mark.parametrize('prob', [0, 1])
def test_frames_and_labels_stay_aligned(short_side, prob):
    results = FlipClip(prob)(ResizeClip(short_side)(clip()))
    bright = results['imgs'][..., 0] >= 125
    labelled = results['gt_seg_maps'] == 7
    assert set(np.unique(results['gt_seg_maps'])) == {0, 7}
    # Nearest neighbour and half brightness may differ by one pixel along an edge, not by a shift.
    for a, b in zip(bright, labelled, strict=True):
        rows_a, cols_a = np.nonzero(a)
        rows_b, cols_b = np.nonzero(b)
        assert abs(rows_a.mean() - rows_b.mean()) <= 0.5
        assert abs(cols_a.mean() - cols_b.mean()) <= 0.5
        assert (a != b).sum() <= a.sum() ** 0.5 * 4


def test_halving_keeps_the_middle():
    """A centred square stays centred: no half pixel is lost to one side."""
    maps = np.zeros((1, 40, 40), np.uint8)
    maps[:, 13:27, 13:27] = 1
    results = {'imgs': np.repeat(maps[..., None], 3, -1), 'gt_seg_maps': maps}
    out = ResizeClip(30)(results)['gt_seg_maps']
    assert np.array_equal(out, out[:, :, ::-1])
    assert np.array_equal(out, out[:, ::-1])


def test_flip_twice_is_identity():
    before, flip = clip(), FlipClip(1)
    once = flip(clip())
    assert once['flip'] is True
    assert np.array_equal(once['imgs'], before['imgs'][:, :, ::-1])
    assert np.array_equal(once['gt_seg_maps'], before['gt_seg_maps'][:, :, ::-1])
    twice = flip(once)
    assert np.array_equal(twice['imgs'], before['imgs'])
    assert np.array_equal(twice['gt_seg_maps'], before['gt_seg_maps'])


def test_flip_probability():
    np.random.seed(0)
    share = np.mean([FlipClip(0.3)(clip(1))['flip'] for _ in range(1000)])
    assert abs(share - 0.3) < 0.05
    results = FlipClip(0)(clip())
    assert results['flip'] is False
    assert np.array_equal(results['imgs'], clip()['imgs'])


def test_without_labels():
    results = FlipClip(1)(ResizeClip(12)(clip(labels=False)))
    assert results['imgs'].shape == (3, 12, 16, 3)
    assert 'gt_seg_maps' not in results


@pytest.mark.parametrize('short_side', [0, (), (240, -1), (240, 'x')])
def test_wrong_short_side(short_side):
    with pytest.raises(ValueError, match='short_side'):
        ResizeClip(short_side)


def test_wrong_arguments():
    with pytest.raises(ValueError, match='max_size.*0'):
        ResizeClip(240, max_size=0)
    with pytest.raises(ValueError, match=r'1\.5'):
        FlipClip(1.5)
