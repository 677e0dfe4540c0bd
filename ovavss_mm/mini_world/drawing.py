# SPDX-License-Identifier: Apache-2.0
"""Pictures of the mini world: backgrounds, textured objects, frames and exact labels."""

import colorsys
from collections.abc import Iterator

import cv2
import numpy as np

from .names import NAMES, split_name
from .scene import FRAME_SIZE, Scene, SceneObject

# Hue in degrees, saturation and value.
COLOUR_HSV = {
    'red': (2, 0.82, 0.84),
    'green': (125, 0.68, 0.68),
    'blue': (218, 0.80, 0.84),
    'yellow': (53, 0.80, 0.90),
    'purple': (288, 0.70, 0.72),
}
# Number of corners, and their radii in turn; few corners reach past radius 1, so that all areas are of one order.
SHAPE_CORNERS = {'disc': (64, (1.0,)), 'square': (4, (1.25,)), 'triangle': (3, (1.35,)), 'star': (10, (1.35, 0.58))}
SUPERSAMPLING = 4
TEXTURE_SIZE = 64
TEXTURE_DEPTH = 0.2  # luminance modulation
OUTLINE_FACTOR = 0.55
_SUBPIXEL_BITS = 4


def render_pictures(scene: Scene, fps: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """All :func:`iter_pictures`: frames uint8 (T, 96, 128, 3), labels uint8 (T, 96, 128), T = seconds * fps."""
    frames, labels = zip(*iter_pictures(scene, fps), strict=True)
    return np.stack(frames), np.stack(labels)


def iter_pictures(scene: Scene, fps: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw the frames of a scene; frame k shows second k / fps and is labelled by second k // fps.

    Yields:
        tuple: frame uint8 (96, 128, 3) RGB and label uint8 (96, 128), 0 where nothing visible sounds, else the name's
        index + 1.

    Raises:
        ValueError: ``fps`` is below 1.
    """
    if fps < 1:
        raise ValueError(f'fps must be at least 1, got {fps}')
    background = make_background(np.random.default_rng((scene.seed, 0)))
    for index in range(scene.num_seconds * fps):
        canvas = pan_background(background, index / fps)
        label = np.zeros(FRAME_SIZE, dtype=np.uint8)
        for obj in scene.objects:
            coverage = draw_object(canvas, obj, index / fps)
            sounds = obj.sounding[index // fps]
            # A silent object hides what lies behind it and is background itself.
            label[coverage >= 0.5] = NAMES.index(obj.name) + 1 if sounds else 0
        yield to_uint8(canvas), label


def draw_object(canvas: np.ndarray, obj: SceneObject, time: float = 0.0) -> np.ndarray:
    """Draw an object as it is after ``time`` seconds over a picture, float32 (H, W, 3) RGB in 0..255, in place.

    Returns:
        np.ndarray: float32 (H, W), the part of each pixel that the object covers, 0..1.
    """
    size = canvas.shape[:2]
    centre, radius, angle = obj.centre_at(time), obj.radius_at(time), obj.angle + obj.spin * time
    shape = split_name(obj.name)[1]
    coverage = _shape_coverage(shape, size, centre, radius, angle)
    light = 1 + TEXTURE_DEPTH * _place_texture(_make_texture(obj), size, centre, radius, angle)
    if obj.outline:
        inside = _shape_coverage(shape, size, centre, radius - 1.8, angle)
        light *= inside + (1 - inside) * OUTLINE_FACTOR
    paint = np.minimum(object_colour(obj) * light[..., None], 255)
    canvas += coverage[..., None] * (paint - canvas)
    return coverage


def object_colour(obj: SceneObject) -> np.ndarray:
    """Colour of an object without its texture, float32 (3,), RGB in 0..255."""
    hue, saturation, value = COLOUR_HSV[split_name(obj.name)[0]]
    hue = (hue + obj.hue_shift) % 360 / 360
    rgb = colorsys.hsv_to_rgb(hue, saturation, min(value * obj.brightness, 1.0))
    return np.array(rgb, dtype=np.float32) * 255


def shape_outline(shape: str) -> np.ndarray:
    """Corners (x, y) of a shape of radius 1 about the origin, float64 (n, 2)."""
    corners, radii = SHAPE_CORNERS[shape]
    angle = np.arange(corners) * 2 * np.pi / corners
    return np.resize(radii, corners)[:, None] * np.stack([np.sin(angle), -np.cos(angle)], axis=1)


def make_background(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Greyish picture of smooth noise, float32 (176, 208, 3) RGB in 0..255; its drift (x, y) in pixels a second."""
    size = (FRAME_SIZE[1] + 80, FRAME_SIZE[0] + 80)
    level = rng.uniform(85, 175) + rng.uniform(-7, 7, 3)  # grey with a slight tint
    picture = np.zeros((size[1], size[0]), dtype=np.float32)
    for cells, contrast in ((6, 20.0), (18, 8.0)):
        coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        picture += contrast * cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    picture += rng.normal(0, 2, picture.shape).astype(np.float32)
    return picture[..., None] + level.astype(np.float32), rng.uniform(-3, 3, 2)


def pan_background(background: tuple[np.ndarray, np.ndarray], time: float) -> np.ndarray:
    """Cut the frame float32 (96, 128, 3) that a background shows after ``time`` seconds."""
    picture, drift = background
    height, width = FRAME_SIZE
    x, y = np.clip(40 + drift * time, 0, 80)
    return cv2.warpAffine(picture, np.array([[1.0, 0, -x], [0, 1, -y]]), (width, height), flags=cv2.INTER_LINEAR)


def to_uint8(canvas: np.ndarray) -> np.ndarray:
    """Round a float picture in 0..255 to uint8."""
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _shape_coverage(shape, size, centre, radius, angle) -> np.ndarray:
    """Silhouette of a shape with smooth edges: float32 (H, W), the covered part of each pixel."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = shape_outline(shape) @ turn * radius + np.asarray(centre)
    # cv2 counts from the middle of a pixel, the scene from its corner.
    corners = (corners * SUPERSAMPLING - 0.5) * 2**_SUBPIXEL_BITS
    large = np.zeros((size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING), dtype=np.uint8)
    cv2.fillPoly(large, [np.rint(corners).astype(np.int32)], 255, shift=_SUBPIXEL_BITS)
    small = cv2.resize(large, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255


def _make_texture(obj: SceneObject) -> np.ndarray:
    """Texture of an object, float32 (64, 64) in -1..1, over a square of side 3 radii about it."""
    rng = np.random.default_rng(obj.texture_seed)
    size = (TEXTURE_SIZE, TEXTURE_SIZE)
    grid = np.linspace(-1.5, 1.5, TEXTURE_SIZE, dtype=np.float32)
    if obj.texture == 'plain':
        return np.zeros(size, dtype=np.float32)
    if obj.texture == 'stripes':
        wave = np.sin(grid * rng.uniform(6, 11) + rng.uniform(0, 6))
        return np.clip(np.tile(2 * wave, (TEXTURE_SIZE, 1)), -1, 1)
    if obj.texture == 'dots':
        wave = np.cos(grid * rng.uniform(6, 9) + rng.uniform(0, 6))
        return np.clip(3 * (wave[:, None] * wave[None]) - 1, -1, 1)
    coarse = rng.uniform(-1, 1, (9, 9)).astype(np.float32)  # noise
    return cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR)


def _place_texture(texture, size, centre, radius, angle) -> np.ndarray:
    """Lay a texture over a frame, turned and scaled like its object: float32 (H, W)."""
    scale = 3 * radius / TEXTURE_SIZE
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    shift = np.asarray(centre) - 0.5 - turn @ np.full(2, (TEXTURE_SIZE - 1) / 2)
    return cv2.warpAffine(texture, np.c_[turn, shift], (size[1], size[0]), flags=cv2.INTER_LINEAR)
