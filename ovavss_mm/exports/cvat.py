# SPDX-License-Identifier: Apache-2.0
"""CVAT for video 1.1: XML with a mask in each labelled frame for each object."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from ..models.segmentors.windows import FrameObject
from ..visualization.name_colors import name_palette
from .base import Export, Origin, objects_of, rounded, runs_of

if TYPE_CHECKING:
    from ..apis.video.request import LabelledFrame

# Characters that an XML file may not have, not even escaped.
NO_XML = re.compile('[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')
ATTRIBUTES = ('object', 'score', 'sound')


class Cvat(Export):
    """CVAT for video 1.1: frames are those of the video, counted from 0.

    CVAT has no tracks of masks, and takes the first mask alone of one. So each mask is a track of its own, as CVAT
    itself writes it: in the frame of its label, and ``outside`` from the next one on. The masks of an object are a
    group; the attribute ``object`` has its id, too, ``score`` and ``sound`` have its scores.
    """

    suffix = '.xml'

    def __init__(self, path: Path, origin: Origin, names: Sequence[str]) -> None:
        super().__init__(path, origin, names)
        self.tracks: list[str] = []
        self._last, self._left_out = -1, 0

    def write(self, frame: 'LabelledFrame') -> None:
        """Keep the masks of a frame, as RLE."""
        number = self.origin.numbers[-1]
        if number == self._last:
            self._left_out += 1
            return
        self._last = number
        for found, mask in objects_of(frame):
            shape = _shape(found, mask)
            masks = ''.join(_mask(number + outside, *shape, outside) for outside in (0, 1))
            what = f'id="{len(self.tracks)}" label={attribute(self.names[found.label])} group_id="{found.id}"'
            self.tracks.append(f'<track {what} source="auto">\n{masks}</track>\n')

    def finish(self, footer: dict[str, Any]) -> list[str]:
        """Write the file."""
        with self.path.open('w', encoding='utf-8') as file:
            file.write(f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{self._meta()}')
            file.writelines(self.tracks)
            file.write('</annotations>\n')
        if not self._left_out:
            return []
        return [
            f'CVAT has one mask of an object for a frame of the video, and {self._left_out} labelled frames are of the '
            'same one as the label before them: they are left out of it'
        ]

    def _meta(self) -> str:
        """Name, labels and size of the task."""
        height, width = self.origin.size
        kinds = ''.join(
            f'<attribute><name>{name}</name><mutable>False</mutable><input_type>text</input_type>'
            '<default_value></default_value><values></values></attribute>'
            for name in ATTRIBUTES
        )
        labels = ''.join(
            f'<label><name>{escape(no_control(name))}</name><color>{color}</color><type>mask</type>'
            f'<attributes>{kinds}</attributes></label>\n'
            for name, color in zip(self.names, colors(self.names), strict=True)
        )
        source = Path(self.origin.path or self.origin.name).name
        return (
            f'<meta>\n<task><name>{escape(no_control(self.origin.name))}</name><mode>interpolation</mode>'
            f'<start_frame>0</start_frame>\n<labels>\n{labels}</labels>\n'
            f'<original_size><width>{width}</width><height>{height}</height></original_size>'
            f'<source>{escape(no_control(source))}</source></task>\n</meta>\n'
        )


def _shape(found: FrameObject, mask: np.ndarray) -> tuple[str, str]:
    """Attributes of the element of a mask, and its content."""
    left, top, right, bottom = found.box
    inside = mask[top:bottom, left:right].ravel()  # row by row
    runs = runs_of(inside).tolist()
    if inside[0]:  # the first run is one of background
        runs.insert(0, 0)
    values = zip(ATTRIBUTES, (found.id, rounded(found.score), rounded(found.sound)), strict=True)
    content = ''.join(f'<attribute name="{name}">{value}</attribute>' for name, value in values)
    rle = ','.join(map(str, runs))
    return f'rle="{rle}" left="{left}" top="{top}" width="{right - left}" height="{bottom - top}"', content


def _mask(number: int, shape: str, content: str, outside: int) -> str:
    """The element of a mask in a frame, a line."""
    state = f'frame="{number}" keyframe="1" outside="{outside}" occluded="0"'
    return f'<mask {state} {shape} z_order="0">{content}</mask>\n'


def colors(names: Sequence[str]) -> list[str]:
    """The colours of names in labelled videos, as ``#rrggbb``."""
    return [f'#{red:02x}{green:02x}{blue:02x}' for red, green, blue in name_palette(names)[1:].tolist()]


def no_control(text: str) -> str:
    """A text without what XML cannot hold; a mark stands in its place."""
    return NO_XML.sub('\ufffd', text)


def attribute(text: str) -> str:
    """A text as the value of an attribute, with its quotes."""
    return quoteattr(no_control(text))
