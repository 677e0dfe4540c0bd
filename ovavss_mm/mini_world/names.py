# SPDX-License-Identifier: Apache-2.0
"""Names of the mini world and their split into base and novel."""

COLOURS = ('red', 'green', 'blue', 'yellow', 'purple')
SHAPES = ('disc', 'square', 'triangle', 'star')
# Label of a name = its index + 1; 0 is the background.
NAMES = tuple(sorted(f'{colour}-{shape}' for colour in COLOURS for shape in SHAPES))
# Each colour and each shape of a novel name is met in several base names.
NOVEL_NAMES = ('blue-disc', 'blue-square', 'green-disc', 'purple-star', 'red-star', 'yellow-triangle')
BASE_NAMES = tuple(name for name in NAMES if name not in NOVEL_NAMES)


def split_name(name: str) -> tuple[str, str]:
    """Colour and shape of a name; ValueError if it is not one of ``NAMES``."""
    if name not in NAMES:
        raise ValueError(f'{name!r} is no name of the mini world; the names are {", ".join(NAMES)}')
    colour, shape = name.split('-')
    return colour, shape
