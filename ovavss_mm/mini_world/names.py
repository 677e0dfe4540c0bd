# SPDX-License-Identifier: Apache-2.0
"""Names of the mini world and their split into base and novel."""

from __future__ import annotations

COLOURS = ('red', 'green', 'blue', 'yellow', 'purple')
SHAPES = ('disc', 'square', 'triangle', 'star')
# Label index of a name = its place here + 1; 0 is the background.
NAMES = tuple(sorted(f'{colour}-{shape}' for colour in COLOURS for shape in SHAPES))
# Each colour and each shape of a novel name is met in several base names.
NOVEL_NAMES = tuple(
    sorted(
        (
            'red-star',
            'green-disc',
            'blue-square',
            'blue-disc',
            'yellow-triangle',
            'purple-star',
        )
    )
)
BASE_NAMES = tuple(name for name in NAMES if name not in NOVEL_NAMES)


def split_name(name: str) -> tuple[str, str]:
    """Split a name into its attributes.

    Args:
        name: one of ``NAMES``.

    Returns:
        ``(colour, shape)``.

    Raises:
        ValueError: if the name is not one of the mini world's.
    """
    if name not in NAMES:
        raise ValueError(f'{name!r} is no name of the mini world; the names are {", ".join(NAMES)}')
    colour, shape = name.split('-')
    return colour, shape
