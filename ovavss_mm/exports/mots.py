# SPDX-License-Identifier: Apache-2.0
"""MOTS: pictures of 16 bits, and a text file with the same as RLE."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .base import Export, Origin, objects_of, rle_of

if TYPE_CHECKING:
    from ..apis.video.request import LabelledFrame

IDS = 1000  # of each class
IGNORED = 10  # class of regions that evaluations of MOTS leave out
MOST = 2**16 - 1  # value of a pixel


class Mots(Export):
    """MOTS: a pixel of an object has the value class * 1000 + id, the background 0.

    The folder has ``instances/MILLISECONDS.png`` with ``instances/labels.txt``, a name a line of which line c is class
    c; ``images`` with the pictures; and ``instances.txt``, lines of frame (from 1), value, class, height, width and
    RLE. Class 10 is for regions that are ignored, and so no name has it.
    """

    pictures = True

    def __init__(self, path: Path, origin: Origin, names: Sequence[str]) -> None:
        super().__init__(path, origin, names)
        (path / 'instances').mkdir()
        lines = [' '.join(name.split()) for name in self.names]
        if len(lines) >= IGNORED:
            ignored = 'ignored'
            while ignored in lines:
                ignored += '_'
            lines.insert(IGNORED - 1, ignored)
        (path / 'instances' / 'labels.txt').write_text('\n'.join(lines), encoding='utf-8')
        self._file = (path / 'instances.txt').open('w', encoding='ascii')
        self._left_out: set[tuple[int, int]] = set()  # label and id

    def write(self, frame: 'LabelledFrame') -> None:
        """Write the picture of a frame, and its lines."""
        values = np.zeros(self.origin.size, np.uint16)
        for found, mask in objects_of(frame):
            kind = found.label + 1 + (found.label + 1 >= IGNORED)
            value = kind * IDS + found.id
            if found.id >= IDS or value > MOST:
                self._left_out.add((found.label, found.id))
                continue
            values[mask] = value
            height, width = self.origin.size
            counts = rle_of(mask)['counts']
            self._file.write(f'{len(self.origin.numbers)} {value} {kind} {height} {width} {counts}\n')
        picture = self.origin.picture
        Image.fromarray(values).save(self.path / 'instances' / f'{picture.stem}.png')
        self.origin.link_picture(self.path / 'images')

    def finish(self, footer: dict[str, Any]) -> list[str]:
        """Say what did not fit."""
        if not self._left_out:
            return []
        return [
            f'MOTS has 16 bits for class * {IDS} + id: {len(self._left_out)} objects are left out of it, whose id is '
            f'above {IDS - 1} or whose number is above {MOST}'
        ]

    def close(self) -> None:
        """Close the text file."""
        self._file.close()
