# SPDX-License-Identifier: Apache-2.0
"""A colour for every name of any vocabulary: stable for a name, far from the other names'."""

import functools
import hashlib
from collections.abc import Sequence
from itertools import count

import cv2
import numpy as np

NUM_COLORS = 64  # of the fixed set; beyond them colours are told apart, but not well
_BRIGHTNESS = (45, 92)  # of the set: CIE L*, 0 to 100
_FAR = 30  # a distance in CIE Lab at which nobody takes two colours for one
_GREY = 35  # least distance of a colour from grey, in CIE a* and b*


@functools.cache
def color_set() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The fixed colours, each the one furthest from those before it.

    Returns:
        tuple: uint8 (64, 3) RGB; float32 (64, 64) distances in CIE Lab; and float32 (64,), by k the least distance
        among the first k + 1 colours (infinite for the first).
    """
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing='ij'), -1).reshape(-1, 3)
    lab = to_lab(grid)
    keep = (_BRIGHTNESS[0] <= lab[:, 0]) & (lab[:, 0] <= _BRIGHTNESS[1])
    keep &= np.linalg.norm(lab[:, 1:], axis=1) >= _GREY
    grid, lab = grid[keep], lab[keep]
    chosen = [int(lab[:, 1].argmax())]
    nearest = np.linalg.norm(lab - lab[chosen[0]], axis=1)
    spread = [np.inf]
    while len(chosen) < NUM_COLORS:
        chosen.append(int(nearest.argmax()))
        spread.append(float(nearest.max()))
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
    distance = np.linalg.norm(lab[chosen][:, None] - lab[chosen][None], axis=-1)
    return grid[chosen], distance, np.array(spread, dtype=np.float32)


def to_lab(colors: np.ndarray) -> np.ndarray:
    """CIE Lab of colours uint8 (n, 3) RGB: float32 (n, 3), in which distances are perceptual."""
    scaled = np.asarray(colors, np.float32)[None] / 255
    return cv2.cvtColor(np.ascontiguousarray(scaled), cv2.COLOR_RGB2LAB)[0]


def name_hash(name: str) -> int:
    """Hash of a name, the same in every process; case and surrounding blanks do not matter."""
    digest = hashlib.sha256(name.strip().casefold().encode('utf-8', 'surrogatepass')).digest()
    return int.from_bytes(digest[:8], 'big')


def name_palette(names: Sequence[str]) -> np.ndarray:
    """Colours of a vocabulary.

    A name has a colour of its own, by its hash, and keeps it in every vocabulary in which that colour is far enough
    from the others'; otherwise it gets the furthest colour that is free. The order of the names does not matter.

    Args:
        names (Sequence[str]): N names, each once.

    Returns:
        np.ndarray: uint8 (N + 1, 3) RGB, black for the background first. All are different; among up to 64 names they
        are well apart.

    Raises:
        ValueError: a name occurs twice.
    """
    hashes = [name_hash(name) for name in names]
    if len(set(hashes)) != len(hashes):
        raise ValueError('each name may occur once in a palette')
    palette = np.zeros((len(names) + 1, 3), dtype=np.uint8)
    order = sorted(range(len(names)), key=hashes.__getitem__)
    colors = color_set()[0]
    for k, slot in _slots([hashes[i] for i in order[:NUM_COLORS]], len(names)).items():
        palette[order[k] + 1] = colors[slot]
    used = set(map(tuple, colors.tolist()))
    for i in order[NUM_COLORS:]:
        by_hash = (tuple(64 + (value >> shift) % 192 for shift in (0, 16, 32)) for value in count(hashes[i]))
        palette[i + 1] = next(color for color in by_hash if color not in used)
        used.add(tuple(palette[i + 1].tolist()))
    return palette


def _slots(hashes: list[int], num_names: int) -> dict[int, int]:
    """Index of the colour for the number of each of up to 64 hashes."""
    _, distance, spread = color_set()
    # half of what the best choice of so many colours would have: then there is always one as far that is free
    limit = min(0.5 * spread[min(num_names, NUM_COLORS) - 1], _FAR)
    slots, nearest = {}, np.full(NUM_COLORS, np.inf)

    def take(number: int, slot: int) -> None:
        slots[number] = slot
        np.minimum(nearest, distance[slot], out=nearest)

    for number, value in enumerate(hashes):
        if nearest[value % NUM_COLORS] > limit:
            take(number, value % NUM_COLORS)
    for number in range(len(hashes)):
        if number not in slots:
            take(number, int(nearest.argmax()))
    return slots
