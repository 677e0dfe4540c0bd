# SPDX-License-Identifier: Apache-2.0
"""Masks in COCO's forms, RLE (compressed or not) and polygons, as arrays."""

import numpy as np
from pycocotools import mask as coco


def decode(part: object, shape: tuple[int, int], where: str) -> np.ndarray:
    """A mask, bool (H, W), from RLE (compressed or not) or polygons; ValueError with ``where`` if it is neither."""
    from ovavss_mm.utils.text import one_line

    try:
        if isinstance(part, dict):
            return decode_runs(part, shape)
        if isinstance(part, list):
            return decode_polygons(part, shape)
        raise ValueError('a mask must be an RLE, a list of polygons or null')
    except ValueError as error:
        raise ValueError(f'{where}: {error}, got {one_line(repr(part))}') from error


def decode_polygons(polygons: list, shape: tuple[int, int]) -> np.ndarray:
    """A mask, bool (H, W), from polygons, each ``[x, y, x, y, ..]``, or from a single one."""
    if polygons and not any(isinstance(polygon, list) for polygon in polygons):
        polygons = [polygons]
    far = 2 * max(shape)  # they may reach a bit out of the picture; pycocotools takes memory for each step of an edge
    for polygon in polygons:
        if not isinstance(polygon, list) or not all(type(x) in (int, float) and -far <= x <= far for x in polygon):
            raise ValueError(f'a polygon must be a list of numbers x, y, x, y .. in pixels of {shape[1]} x {shape[0]}')
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f'a polygon must have x and y of 3 or more corners, not {len(polygon)} numbers')
        if max(polygon) <= 1 and any(x % 1 for x in polygon):
            raise ValueError('a polygon must be in pixels, not in parts of the picture')
    if not polygons:
        return np.zeros(shape, bool)
    return coco.decode(coco.merge(coco.frPyObjects(polygons, *shape))).astype(bool)


def decode_runs(rle: dict, shape: tuple[int, int]) -> np.ndarray:
    """A mask, bool (H, W), from an RLE; pycocotools would read beyond its memory where counts are wrong."""
    size, counts = rle.get('size'), rle.get('counts')
    if not isinstance(size, list) or not isinstance(counts, (list, str)):
        raise ValueError('an RLE must have size [height, width] and counts, a list or a text')
    if tuple(size) != shape:
        raise ValueError(f'a mask has {size[::-1]} pixels, its video {shape[::-1]}')
    runs = read_counts(counts) if isinstance(counts, str) else counts
    if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != shape[0] * shape[1]:
        raise ValueError(f'the counts of an RLE must be numbers from 0 up, of {shape[0] * shape[1]} pixels in all')
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape[::-1]).T


def read_counts(text: str) -> list[int]:
    """Run lengths from COCO's text.

    A letter has 5 bits of a number, low ones first, and says whether more follow; from the fourth on a number is the
    difference from the one two before.
    """
    runs, value, shift = [], 0, 0
    for bits in (ord(letter) - 48 for letter in text):
        if not 0 <= bits < 64:
            break
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)  # the sign
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    else:
        if not shift:
            return runs
    raise ValueError('the counts of an RLE are no text that COCO writes')
