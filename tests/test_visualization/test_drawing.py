# SPDX-License-Identifier: Apache-2.0
"""Primitives of the sheets."""

import numpy as np
import pytest

from ovavss_mm.visualization import drawing

PALETTE = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], dtype=np.uint8)


def test_blend_colours_named_pixels_and_greys_unlabelled_ones_only():
    frame = np.full((20, 20, 3), 100, dtype=np.uint8)
    labels = np.zeros((20, 20), dtype=int)
    labels[2:10, 2:10], labels[12:18, 12:18] = 1, 255
    out = drawing.blend(frame, labels, PALETTE, alpha=0.5)
    assert out[6, 6].tolist() == [150, 50, 50]
    assert out[15, 15].tolist() == [125, 125, 125]
    assert (out[labels == 0] == 100).all()
    assert (frame == 100).all()
    assert (drawing.blend(frame, labels, PALETTE, alpha=1.0)[6, 6] == PALETTE[1]).all()


@pytest.mark.parametrize('seed', range(5))
def test_anchor_lies_in_the_largest_part(seed):
    rng = np.random.RandomState(seed)
    mask = np.zeros((40, 50), dtype=bool)
    mask[1:4, 1:4] = True
    top, left = rng.randint(10, 20), rng.randint(10, 30)
    mask[top : top + 12, left : left + 12] = True
    x, y = drawing.mask_anchor(mask)
    assert top + 3 <= y < top + 9 and left + 3 <= x < left + 9


def test_anchor_of_a_ring_is_on_the_ring():
    mask = np.ones((30, 30), dtype=bool)
    mask[8:22, 8:22] = False
    x, y = drawing.mask_anchor(mask)
    assert mask[y, x]


def test_tags_stay_inside_and_clear_of_each_other():
    taken = []
    for _ in range(4):
        taken.append(drawing.place((2, 2), (30, 10), (60, 80), taken))
    for k, (left, top, right, bottom) in enumerate(taken):
        assert 0 <= left and right <= 80 and 0 <= top and bottom <= 60
        for other in taken[:k]:
            assert bottom <= other[1] or other[3] <= top
    # A full or too small picture still gets a tag.
    assert drawing.place((0, 0), (30, 10), (8, 8), []) == (0, 0, 30, 10)


def test_tag_of_a_small_mask_stands_beside_it_and_of_a_large_one_within():
    mask = np.zeros((60, 80), dtype=bool)
    mask[10:20, 30:40] = True
    assert drawing.tag_center(mask, (50, 16))[1] - 8 >= 20
    mask[:], mask[45:58, 30:40] = False, True  # no room below
    assert drawing.tag_center(mask, (50, 16))[1] + 8 < 45
    mask[5:58, 30:40] = True  # nor above
    x, y = drawing.tag_center(mask, (50, 16))
    assert mask[y, x]
    mask[:] = True
    x, y = drawing.tag_center(mask, (50, 16))
    assert 20 < x < 60 and 20 < y < 40


@pytest.mark.parametrize(('color', 'ink'), [((0, 0, 0), 255), ((64, 0, 128), 255), ((255, 255, 255), 0)])
def test_ink_contrasts(color, ink):
    assert drawing.ink_on(color) == (ink,) * 3


def test_names_are_written():
    picture = np.full((60, 160, 3), 90, dtype=np.uint8)
    labels = np.ones((60, 160), dtype=int)
    short = drawing.write_names(picture, labels, ('background', 'a'), PALETTE)
    long = drawing.write_names(picture, labels, ('background', 'abcdefgh'), PALETTE)
    changed = [(p != picture).any(-1).sum() for p in (short, long)]
    assert 0 < changed[0] < changed[1]
    # The tag has the name's colour.
    assert ((long == PALETTE[1]).all(-1)).sum() > 100


def test_frames_without_label_turn_grey():
    frame = np.zeros((50, 90, 3), dtype=np.uint8)
    frame[..., 0] = 255
    out = drawing.overlay(frame, np.full((50, 90), 255), ('background',), PALETTE, 0.8)
    assert out.shape == frame.shape
    assert np.ptp(out[0, 0].astype(int)) < np.ptp(frame[0, 0].astype(int))


@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.int64])
def test_255_is_a_name_where_there_are_so_many(dtype):
    """But in uint8 maps, which say 'no label' by it; and without a class 255 it says so in all maps."""
    labels, frame = np.full((40, 60), 255, dtype), np.full((40, 60, 3), 9, np.uint8)
    names, palette = [f'n{i}' for i in range(300)], np.full((300, 3), (0, 0, 200), np.uint8)
    many = drawing.overlay(frame, labels, names, palette, 1.0)
    few = drawing.overlay(frame, labels, names[:255], palette[:255], 1.0)
    unlabelled = drawing.overlay(frame, labels.astype(np.uint8), names[:3], PALETTE, 1.0)
    assert (few == unlabelled).all()
    if dtype == np.uint8:
        assert (many == unlabelled).all()
    else:
        assert (many[3, 3] == palette[255]).all()
        assert (drawing.blend(frame, labels, palette, 1.0)[3, 3] == palette[255]).all()
        assert (drawing.write_names(frame, labels, names, palette) != frame).any()
