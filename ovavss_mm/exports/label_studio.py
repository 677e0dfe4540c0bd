# SPDX-License-Identifier: Apache-2.0
"""Label Studio: masks as predictions of tasks to import, and a timeline of the video."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from ..models.segmentors.windows import FrameObject
from .base import Export, Origin, objects_of, rounded, runs_of
from .cvat import attribute, colors

if TYPE_CHECKING:
    from ..apis.video.request import LabelledFrame

MODEL = 'ovavss_mm'
RUN_BITS = (3, 4, 8, 16)  # of the lengths of runs, of which each takes the least that hold it
LONGEST = 2 ** RUN_BITS[-1]
IMAGE_CONFIG = '<View>\n<Image name="image" value="$image" zoom="true"/>\n{}\n</View>\n'
VIDEO_CONFIG = '<View>\n{}\n<Video name="video" value="$video" framerate="$fps"/>\n</View>\n'


class LabelStudio(Export):
    """Label Studio: two projects, each a labelling config and its tasks.

    ``images.xml`` and ``images.json``: a task a labelled frame, its objects as ``brushlabels``. ``timeline.xml`` and
    ``timeline.json``: one task of ``vis/NAME.mp4``, the intervals of names as ``timelinelabels`` in frames from 1.
    Addresses are those of local files, with the output folder as the document root.
    """

    pictures = True

    def __init__(self, path: Path, origin: Origin, names: Sequence[str]) -> None:
        super().__init__(path, origin, names)
        for name, tag, config in (
            ('images', 'BrushLabels', IMAGE_CONFIG),
            ('timeline', 'TimelineLabels', VIDEO_CONFIG),
        ):
            to = 'image' if name == 'images' else 'video'
            labels = ''.join(
                f'<Label value={attribute(name)} background="{color}"/>\n'
                for name, color in zip(self.names, colors(self.names), strict=True)
            )
            content = config.format(f'<{tag} name="names" toName="{to}">\n{labels}</{tag}>')
            (path / f'{name}.xml').write_text(content, encoding='utf-8')
        self._file = (path / 'images.json').open('w', encoding='ascii')
        self._separator = '[\n'

    def write(self, frame: 'LabelledFrame') -> None:
        """Write the task of a frame."""
        results = [self._brush(*found) for found in objects_of(frame)]
        video = Path(self.origin.path or self.origin.name).name
        data: dict[str, Any] = dict(image=_address(f'export/frames/{self.origin.picture_path}'), video=video)
        data |= dict(time=round(frame.time, 4), frame=self.origin.numbers[-1])
        self._file.write(self._separator + json.dumps(_task(data, results)))
        self._separator = ',\n'

    def _brush(self, found: FrameObject, mask: np.ndarray) -> dict[str, Any]:
        """The result of an object."""
        height, width = self.origin.size
        name = self.names[found.label]
        return dict(
            id=f'object{found.id}',
            type='brushlabels',
            from_name='names',
            to_name='image',
            original_width=width,
            original_height=height,
            image_rotation=0,
            value=dict(format='rle', rle=brush_rle(mask), brushlabels=[name]),
            score=rounded(found.score),
            meta=dict(text=[f'object {found.id}, sound score {rounded(found.sound)}']),
        )

    def finish(self, footer: dict[str, Any]) -> list[str]:
        """Write the timeline."""
        self._file.write('\n]\n')
        rate = round(self.origin.rate, 3)
        results: list[dict] = []
        for name, heard in footer['names'].items():
            for start, end in heard['intervals']:
                first = round(start * rate) + 1
                value = dict(ranges=[dict(start=first, end=max(first, round(end * rate)))], timelinelabels=[name])
                place = dict(id=f'interval{len(results)}', from_name='names', to_name='video')
                results.append(dict(place, type='timelinelabels', value=value, score=heard['score']))
        task = _task(dict(video=_address(f'vis/{self.origin.name}.mp4'), fps=rate), results)
        (self.path / 'timeline.json').write_text(json.dumps([task]), encoding='ascii')
        return []

    def close(self) -> None:
        """Close the file of tasks."""
        self._file.close()


def _address(path: str) -> str:
    """Where Label Studio serves a file below its document root."""
    return f'/data/local-files/?d={quote(path)}'


def _task(data: dict[str, Any], results: list[dict]) -> dict[str, Any]:
    """A task with a prediction, that may be empty."""
    return dict(data=data, predictions=[dict(model_version=MODEL, result=results)])


def brush_rle(mask: np.ndarray) -> list[int]:
    """The brush of Label Studio of a mask, bool (H, W): bytes of a packed RLE of its four channels.

    Bits: the number of values in 32, their own size less 1 in 5, four sizes of lengths less 1 in 4 each. Then for each
    run 1, which size its length has in 2, the length less 1, and the value, 0 or 255.
    """
    bits = [f'{4 * mask.size:032b}', f'{8 - 1:05b}', *(f'{size - 1:04b}' for size in RUN_BITS)]
    value = int(mask.flat[0]) * 255
    for length in (4 * runs_of(mask.ravel())).tolist():
        for part in (*[LONGEST] * ((length - 1) // LONGEST), (length - 1) % LONGEST + 1):
            place = next(i for i, size in enumerate(RUN_BITS) if part <= 2**size)
            bits.append(f'1{place:02b}{part - 1:0{RUN_BITS[place]}b}{value:08b}')
        value = 255 - value
    text = ''.join(bits)
    text += '0' * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, 'big'))
