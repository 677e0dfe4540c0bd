# SPDX-License-Identifier: Apache-2.0
"""A dataset of Datumaro."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.json_stream import JsonStream
from ..visualization.name_colors import name_palette
from .base import Export, Origin, objects_of, rle_of, rounded

if TYPE_CHECKING:
    from ..apis.video.request import LabelledFrame

SUBSET = 'default'
IMAGES = 2  # number of the kind of media


class Datumaro(Export):
    """A dataset of Datumaro: ``annotations/default.json``, and pictures below ``images/default/NAME``.

    An item a labelled frame, ``NAME/MILLISECONDS``, with masks; ``object_id`` is the id of an object, attributes are
    ``score`` and ``sound``, of an item ``time`` in seconds and ``frame``, the number of the video's own frame.
    """

    pictures = True

    def __init__(self, path: Path, origin: Origin, names: Sequence[str]) -> None:
        super().__init__(path, origin, names)
        (path / 'annotations').mkdir()
        labels = [dict(name=name, parent='', attributes=[]) for name in self.names]
        palette = enumerate(name_palette(self.names)[1:].tolist())
        colormap = [dict(label_id=i, r=red, g=green, b=blue) for i, (red, green, blue) in palette]
        header = dict(dm_format_version='1.0', media_type=IMAGES, infos={})
        header['categories'] = dict(
            label=dict(labels=labels, label_groups=[], attributes=[]), mask=dict(colormap=colormap)
        )
        self._json = JsonStream(path / 'annotations' / f'{SUBSET}.json', header, 'items', plain=True)
        self._count = 0

    def write(self, frame: 'LabelledFrame') -> None:
        """Write the item of a frame."""
        annotations = []
        for found, mask in objects_of(frame):
            self._count += 1
            scores = dict(score=rounded(found.score), sound=rounded(found.sound))
            place = dict(id=self._count, type='mask', group=0, z_order=0, object_id=found.id, label_id=found.label)
            annotations.append(dict(place, rle=rle_of(mask), attributes=dict(track_id=found.id, **scores)))
        file = self.origin.picture_path
        self._json.write(
            dict(
                id=file.removesuffix('.jpg'),
                annotations=annotations,
                attr=dict(time=round(frame.time, 4), frame=self.origin.numbers[-1]),
                image=dict(path=file, size=list(self.origin.size)),
            )
        )
        self.origin.link_picture(self.path / 'images' / SUBSET / self.origin.name)

    def finish(self, footer: dict[str, Any]) -> list[str]:
        """Write the end of the file."""
        self._json.finish({})
        return []

    def close(self) -> None:
        """Close the file."""
        self._json.close()
