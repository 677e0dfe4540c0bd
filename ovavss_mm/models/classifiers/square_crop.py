# SPDX-License-Identifier: Apache-2.0
"""Crops of masked objects (paper section 3.4, Figure 2b, Table 5)."""

import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes, roi_align

ANCHORS = ('center', 'corner')
CROPS = ('square', 'resize', 'whole_frame')


def crop_boxes(masks: Tensor, crop: str, anchor: str, frame_size: tuple[int, ...]) -> Tensor:
    """What is cut out for each mask.

    Args:
        masks (Tensor): (M, H, W) bool, none empty.
        crop (str): 'square', the smallest square that holds the mask's box, so that shapes stay what they are;
            'resize', the box itself, which then fills the crop; 'whole_frame'.
        anchor (str): of squares, see :func:`square_boxes`.
        frame_size (tuple[int, int]): height and width of the frames in pixels.

    Returns:
        Tensor: (M, 4) float32 x0, y0, x1, y1 in pixels, ends excluded.
    """
    if crop == 'square':
        return square_boxes(masks, anchor)
    if crop == 'resize':
        return mask_boxes(masks)
    height, width = frame_size
    return torch.tensor([0.0, 0.0, width, height], device=masks.device).expand(len(masks), -1)


def mask_boxes(masks: Tensor) -> Tensor:
    """Boxes (M, 4) float32 x0, y0, x1, y1 in pixels, ends excluded, of masks (M, H, W) bool, none empty."""
    boxes = masks_to_boxes(masks).float()
    boxes[:, 2:] += 1  # torchvision's boxes end at the last pixel
    return boxes


def square_boxes(masks: Tensor, anchor: str = 'center') -> Tensor:
    """Smallest squares that hold each mask's box; they may reach past the frame.

    Args:
        masks (Tensor): (M, H, W) bool, none empty.
        anchor (str): 'center', the square has the box's centre (the paper's text), or 'corner', its top left corner
            (the released model). Defaults to 'center'.

    Returns:
        Tensor: (M, 4) float32 x0, y0, x1, y1 in pixels, ends excluded.
    """
    boxes = mask_boxes(masks)
    size = boxes[:, 2:] - boxes[:, :2]  # width, height
    side = size.max(1, keepdim=True).values
    start = boxes[:, :2] - (side - size) / 2 if anchor == 'center' else boxes[:, :2]
    return torch.cat([start, start + side], dim=1)


def crop_squares(frames: Tensor, frame_inds: Tensor, masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Sample boxes of frames and of masks as squares, and black out all but the mask.

    Args:
        frames (Tensor): (T, 3, h, w) uint8 or float, 0..255.
        frame_inds (Tensor): (M,) int64, the frame of each mask.
        masks (Tensor): (M, H, W) probabilities; H, W may be larger than h, w at the right and bottom.
        boxes (Tensor): (M, 4) x0, y0, x1, y1 in pixels.
        size (int): side of the crops in pixels.

    Returns:
        Tensor: (M, 3, size, size) float32, 0..255; 0 where a box reaches past the frame.
    """
    boxes = boxes.to(masks)
    frame_rois = torch.cat([frame_inds.unsqueeze(1).to(boxes), boxes], dim=1)
    mask_rois = torch.cat([torch.arange(boxes.shape[0], device=boxes.device).unsqueeze(1).to(boxes), boxes], dim=1)
    crops = roi_align(frames.to(boxes.dtype), frame_rois, size, aligned=False)
    return crops * roi_align(masks.unsqueeze(1), mask_rois, size, aligned=False)
