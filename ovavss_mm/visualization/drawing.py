# SPDX-License-Identifier: Apache-2.0
"""Primitives of the sheets: text and mask overlays. Pictures are uint8 RGB (H, W, 3), palettes uint8 (C, 3).

Label maps are integer (H, W): 0 background, i + 1 name i. A pixel without a label is -1; 255 says the same in uint8
maps, and in others where there is no class 255.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .fonts import font, text_width

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels, right and bottom outside

UNLABELLED = (150, 150, 150)
_IGNORE = 255


def class_indices(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Label maps of any integer type and shape as int64, -1 where there is no label."""
    labels, small = labels.astype(np.int64), labels.dtype == np.uint8
    return np.where(labels == _IGNORE, -1, labels) if small or num_classes <= _IGNORE else labels


def ink_on(color: Sequence[int]) -> tuple[int, int, int]:
    """Black or white, whichever contrasts more with a colour (R, G, B) of 0 to 255."""
    return (0, 0, 0) if np.dot(color, (0.299, 0.587, 0.114)) > 140 else (255, 255, 255)


def resize_frame(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a picture smoothly to (H, W) in pixels."""
    mode = cv2.INTER_AREA if size[0] < frame.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(frame), size[::-1], interpolation=mode)


def blend(frame: np.ndarray, labels: np.ndarray, palette: np.ndarray, alpha: float) -> np.ndarray:
    """Colour the named pixels of a frame, with opacity ``alpha`` of 0 to 1, and outline them, in a new array.

    The background stays as it is, pixels without a label turn grey.
    """
    labels = class_indices(labels, len(palette))
    colors = np.concatenate([palette, [UNLABELLED]]).astype(np.float32)  # -1 is the last
    mixed = frame * (1 - alpha) + colors[labels] * alpha
    out = np.where((labels != 0)[..., None], mixed, frame).astype(np.uint8)
    for index in np.unique(labels[labels > 0]):
        mask = (labels == index).astype(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(out, outlines, -1, (255, 255, 255), 1)
    return out


def mask_anchor(mask: np.ndarray) -> tuple[int, int]:
    """Pixel (x, y) furthest inside the largest part of a mask, bool (H, W) and not empty."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    # A border of zeros, so that the edge of the picture counts as the edge of the mask.
    inside = cv2.distanceTransform(np.pad(parts == largest, 1).astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(inside[1:-1, 1:-1].argmax(), mask.shape)
    return int(x), int(y)


def tag_center(mask: np.ndarray, extent: tuple[int, int]) -> tuple[int, int]:
    """The point (x, y) at which a tag of an extent (width, height) reads best.

    It is inside the mask, bool (H, W) and not empty; of a mask narrower than the tag just below it, or above where
    there is no room, so that the tag does not hide it.
    """
    x, y = mask_anchor(mask)
    if mask.any(0).sum() > extent[0]:
        return x, y
    rows, half = np.flatnonzero(mask.any(1)), extent[1] // 2
    below, above = int(rows[-1]) + half + 1, int(rows[0]) - half - 1
    if below + half < mask.shape[0]:
        return x, below
    return x, above if above >= half else y


def place(center: tuple[int, int], extent: tuple[int, int], size: tuple[int, int], taken: list[Box]) -> Box:
    """Box of a tag near a point (x, y), inside a picture of (H, W) and, unless it is full, clear of the taken boxes.

    The tag's extent is (width, height).
    """
    width, height = extent
    room = max(size[0] - height, 0)
    left = int(np.clip(center[0] - width // 2, 0, max(size[1] - width, 0)))
    top = int(np.clip(center[1] - height // 2, 0, room))
    for row in sorted(range(room + 1), key=lambda row: abs(row - top)):
        box = (left, row, left + width, row + height)
        if all(box[3] <= b[1] or b[3] <= box[1] or box[2] <= b[0] or b[2] <= box[0] for b in taken):
            return box
    return left, top, left + width, top + height


def write_names(
    picture: np.ndarray, labels: np.ndarray, names: Sequence[str], palette: np.ndarray, size: int = 12
) -> np.ndarray:
    """Write each of C names (the background first) on its mask, ``size`` pixels high in a box of its colour."""
    labels = class_indices(labels, len(palette))
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    taken: list[Box] = []
    for index in np.unique(labels[labels > 0]):
        color = tuple(palette[index].tolist())
        extent = (text_width(names[index], size, True) + 6, size + 4)
        box = place(tag_center(labels == index, extent), extent, labels.shape, taken)
        taken.append(box)
        draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=color, outline=(255, 255, 255))
        draw.text((box[0] + 3, box[1] + 1), names[index], fill=ink_on(color), font=font(size, True, names[index]))
    return np.asarray(image)


def write_caption(picture: np.ndarray, text: str, size: int = 12) -> np.ndarray:
    """Write a text in the lower left corner, ``size`` pixels high on a dark ground, in a new array."""
    out = picture.copy()
    corner = out[-size - 4 :, : text_width(text, size) + 6]  # only this is drawn on
    image = Image.fromarray(corner // 3)
    ImageDraw.Draw(image).text((3, 1), text, fill=(255, 255, 255), font=font(size, text=text))
    corner[:] = np.asarray(image)
    return out


def overlay(
    frame: np.ndarray, labels: np.ndarray, names: Sequence[str], palette: np.ndarray, alpha: float
) -> np.ndarray:
    """``blend`` with names; a frame without any label is grey and says so. Arguments as of the two, a new array."""
    labels = class_indices(labels, len(palette))
    if (labels >= 0).any():
        return write_names(blend(frame, labels, palette, alpha), labels, names, palette)
    image = Image.fromarray((frame * 0.25 + np.array(UNLABELLED) * 0.75).astype(np.uint8))
    center = (frame.shape[1] // 2, frame.shape[0] // 2)
    ImageDraw.Draw(image).text(center, 'no label', fill=(40, 40, 40), font=font(12), anchor='mm')
    return np.asarray(image)
