# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovavss_mm.models.classifiers.square_crop import crop_boxes, crop_squares, square_boxes


def rectangle(top: int, left: int, height: int, width: int, size=(32, 48)) -> torch.Tensor:
    """A mask (1, H, W) of one rectangle."""
    mask = torch.zeros(1, *size, dtype=torch.bool)
    mask[:, top : top + height, left : left + width] = True
    return mask


def crop(frame: torch.Tensor, mask: torch.Tensor, size: int, anchor: str = 'center'):
    """Crop (3, size, size) of a frame (3, h, w) at a mask (1, H, W)."""
    boxes = square_boxes(mask, anchor)
    return crop_squares(frame[None], torch.zeros(1, dtype=torch.long), mask.float(), boxes, size)[0]


# ------------------------------------------------------------------ boxes
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 16)), min_size=1, max_size=6),
    st.sampled_from(['center', 'corner']),
)
def test_boxes_are_the_smallest_squares_that_hold_the_mask(pixels, anchor):
    masks = torch.zeros(2, 12, 17, dtype=torch.bool)
    masks[0, 3, 4] = True
    for y, x in pixels:
        masks[1, y, x] = True
    (x0, y0, x1, y1) = square_boxes(masks, anchor)[1].tolist()
    ys, xs = zip(*pixels, strict=True)
    height, width = max(ys) - min(ys) + 1, max(xs) - min(xs) + 1
    assert x1 - x0 == y1 - y0 == max(height, width)
    assert x0 <= min(xs) and max(xs) + 1 <= x1 and y0 <= min(ys) and max(ys) + 1 <= y1
    if anchor == 'center':
        assert x0 + x1 == min(xs) + max(xs) + 1 and y0 + y1 == min(ys) + max(ys) + 1
    else:
        assert (x0, y0) == (min(xs), min(ys))


def test_boxes_in_numbers():
    mask = rectangle(top=4, left=10, height=6, width=20)
    assert square_boxes(mask, 'center').tolist() == [[10, -3, 30, 17]]
    assert square_boxes(mask, 'corner').tolist() == [[10, 4, 30, 24]]


# ------------------------------------------------------------------ crops
@pytest.mark.parametrize('size', [20, 40])
@pytest.mark.parametrize('anchor', ['center', 'corner'])
def test_a_square_stays_square(anchor, size):
    frame = torch.zeros(3, 32, 48)
    frame[:, 12:16, 15:19] = 255.0
    bright = crop(frame, rectangle(8, 10, 12, 20), size, anchor)[0] > 128
    assert bright.any(1).sum() == bright.any(0).sum()
    assert abs(bright.any(0).sum() - 4 * size // 20) <= 1


def test_anchor_says_where_the_mask_lies_in_the_square():
    frame = torch.full((3, 32, 48), 255.0)
    mask = rectangle(10, 10, 6, 20)
    rows = {a: (crop(frame, mask, 20, a)[0] > 128).any(1).nonzero() for a in ('center', 'corner')}
    assert abs(rows['center'].float().mean() - 9.5) <= 0.5
    assert rows['corner'].min() == 0 and rows['corner'].max() <= 6


def test_what_reaches_past_the_frame_is_black():
    frame = torch.full((3, 32, 48), 200.0)
    image = crop(frame, rectangle(4, 0, 24, 8), 24)  # the square starts 8 pixels left of the frame
    assert not image[:, :, :6].any(), 'further out than one pixel'
    assert (image[:, 2:-2, 9:14] == 200).all()


def test_all_but_the_mask_is_black_and_without_influence():
    """From two pixels on: at its border a mask is sampled together with its neighbours."""
    frame = torch.randint(0, 256, (3, 32, 48)).float()
    mask = rectangle(8, 10, 12, 8)
    near = rectangle(7, 9, 14, 10)[0]
    other = torch.where(near, frame, 255 - frame)
    image = crop(frame, mask, 24)
    assert torch.equal(image, crop(other, mask, 24))
    assert not image[:, :, :2].any() and not image[:, :, -3:].any()


def test_frames_are_weighed_by_probabilities():
    frame, mask = torch.full((1, 3, 32, 48), 100.0), rectangle(8, 10, 12, 12)
    boxes, first = square_boxes(mask), torch.zeros(1, dtype=torch.long)
    image = crop_squares(frame, first, torch.full((1, 32, 48), 0.75), boxes, 6)
    assert torch.allclose(image, torch.full((1, 3, 6, 6), 75.0))


def test_each_mask_takes_its_own_frame():
    frames = torch.stack([torch.full((3, 32, 48), v) for v in (10.0, 20.0, 30.0)])
    masks = rectangle(4, 4, 20, 20).expand(4, -1, -1)
    images = crop_squares(frames, torch.tensor([2, 0, 1, 2]), masks.float(), square_boxes(masks), 5)
    assert images[:, 0, 2, 2].tolist() == [30.0, 10.0, 20.0, 30.0]


def test_frames_may_be_uint8():
    frame, mask = torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8), rectangle(4, 4, 20, 20)
    assert torch.equal(crop(frame, mask, 8), crop(frame.float(), mask, 8))


# ------------------------------------------------------------------ other crops
def crop_as(kind: str, frame: torch.Tensor, mask: torch.Tensor, size: int = 20) -> torch.Tensor:
    """Crop (3, size, size) of a frame (3, h, w) at a mask (1, H, W)."""
    boxes = crop_boxes(mask, kind, 'center', tuple(frame.shape[-2:]))
    return crop_squares(frame[None], torch.zeros(1, dtype=torch.long), mask.float(), boxes, size)[0]


def test_crop_resize_fills_the_input_and_the_square_keeps_the_shape():
    frame, mask = torch.full((3, 32, 48), 255.0), rectangle(8, 10, 8, 20)
    lit = {kind: crop_as(kind, frame, mask)[0] > 128 for kind in ('square', 'whole_frame')}
    assert (crop_as('resize', frame, mask) > 20).all(), 'up to half a pixel at its border'
    height, width = (int(lit['square'].any(axis).sum()) for axis in (1, 0))
    assert abs(height - 8) <= 1 and abs(width - 20) <= 1
    # the frame of 32 x 48 becomes 20 x 20
    height, width = (int(lit['whole_frame'].any(axis).sum()) for axis in (1, 0))
    assert abs(height - 5) <= 1 and abs(width - 8) <= 1
    assert not crop_as('whole_frame', frame, mask)[0][-1].any(), 'all but the mask is black'


def test_crops_in_numbers():
    mask = rectangle(top=4, left=10, height=6, width=20)
    boxes = {k: crop_boxes(mask, k, 'corner', (32, 48)).tolist() for k in ('square', 'resize')}
    assert boxes == dict(square=[[10, 4, 30, 24]], resize=[[10, 4, 30, 10]])
    two = mask.expand(2, -1, -1)
    # masks at the padded size, of a frame without padding
    assert crop_boxes(two, 'whole_frame', 'center', (30, 40)).tolist() == [[0, 0, 40, 30]] * 2
