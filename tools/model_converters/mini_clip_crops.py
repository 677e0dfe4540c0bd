# SPDX-License-Identifier: Apache-2.0
"""Pictures for train_mini_clip.py: objects of the mini world, with masks as imperfect as a segmentor's."""

import cv2
import numpy as np

from ovavss_mm.mini_world.drawing import draw_object, make_background, pan_background, to_uint8
from ovavss_mm.mini_world.names import NAMES
from ovavss_mm.mini_world.scene import FRAME_SIZE, sample_object

JPEG_QUALITY = 92
LEAST_VISIBLE = 0.6  # of an object's area


def sample_masked_object(
    rng: np.random.Generator, name: str, perturb: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a frame that shows an object, among others, and a mask of it.

    Args:
        rng (Generator): source of random numbers.
        name (str): one of the mini world's names.
        perturb (bool): spoil the mask the way a model's masks are: shifted, grown or shrunk, of low
            resolution, with soft edges and pixels that are missing. Else it is exact. Defaults to True.

    Returns:
        tuple: frame uint8 (96, 128, 3) RGB and mask float32 (96, 128) in 0..1, with a pixel above 0.5.

    Raises:
        ValueError: if the name is unknown.
    """
    while True:
        frame, visible = _draw_frame(rng, name)
        if not visible.any():
            continue
        mask = perturb_mask(rng, visible) if perturb else visible.astype(np.float32)
        if (mask > 0.5).sum() > 0.5 * visible.sum():
            return frame, mask


def perturb_mask(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Spoil an exact mask the way a model's masks are.

    Args:
        rng (Generator): source of random numbers.
        mask (np.ndarray): bool (H, W), not empty.

    Returns:
        np.ndarray: float32 (H, W) in 0..1.
    """
    soft = mask.astype(np.float32)
    height, width = mask.shape
    if rng.random() < 0.5:
        size = 2 * int(rng.integers(1, 4)) + 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        soft = (cv2.dilate if rng.random() < 0.5 else cv2.erode)(soft, kernel)
    if rng.random() < 0.2:
        # A bite out of the mask, of up to a third of its diameter.
        rows, columns = np.nonzero(mask)
        place = int(rng.integers(len(rows)))
        cv2.circle(soft, (int(columns[place]), int(rows[place])), int(rng.integers(2, 6)), 0, -1)
    shift = rng.uniform(-2, 2, 2)
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    soft = cv2.warpAffine(soft, matrix, (width, height), flags=cv2.INTER_LINEAR)
    if rng.random() < 0.7:
        # Models predict at a quarter of the size of their input.
        small = cv2.resize(soft, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        soft = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    sharpness = rng.uniform(4, 16)
    return (1 / (1 + np.exp(-sharpness * (soft - 0.5)))).astype(np.float32)


def _draw_frame(rng: np.random.Generator, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw an object among up to two others: frame as it comes out of a JPEG, visible pixels."""
    canvas = pan_background(make_background(rng), 0.0)
    others = rng.permutation([other for other in NAMES if other != name])[: rng.integers(3)]
    place = int(rng.integers(len(others) + 1))
    visible = np.zeros(FRAME_SIZE, dtype=bool)
    area = 0
    for index, shown in enumerate([*others[:place], name, *others[place:]]):
        covered = draw_object(canvas, sample_object(rng, str(shown))) >= 0.5
        if index == place:
            visible, area = covered, covered.sum()
        visible = visible if index == place else visible & ~covered
    if visible.sum() < LEAST_VISIBLE * area:
        visible[:] = False  # the caller draws another frame
    frame = np.ascontiguousarray(to_uint8(canvas)[..., ::-1])
    data = cv2.imencode('.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]), visible
