# SPDX-License-Identifier: Apache-2.0
"""Files as CVAT and Label Studio write them, made by hand, and what a converter made of them."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

from ovavss_mm.datasets import AVSBenchOVDataset, LoadClipFrames, LoadClipLabels

TOOLS = Path(__file__).parents[1] / 'tools/dataset_converters'


def load_tool(name: str) -> ModuleType:
    """A converter as a module."""
    sys.path.insert(0, str(TOOLS))  # as of a script that is run
    spec = importlib.util.spec_from_file_location(name, TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def runs(flat: np.ndarray) -> list[int]:
    """Lengths of runs of a bool array (n,), the first of background."""
    edges = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    return np.diff([0, *edges, len(flat)]).tolist()


# ---------------------------------------------------------------------- CVAT
def cvat_mask(frame: int, mask: np.ndarray, outside: int = 0, more: str = '') -> str:
    """A mask (H, W) of a frame, as small a rectangle as it has."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        rows = columns = np.array([0])
    (top, bottom), (left, right) = rows[[0, -1]], columns[[0, -1]]
    rle = ', '.join(map(str, runs(mask[top : bottom + 1, left : right + 1].ravel())))
    place = f'left="{left}" top="{top}" width="{right - left + 1}" height="{bottom - top + 1}"'
    return f'<mask frame="{frame}" outside="{outside}" occluded="0" keyframe="1" rle="{rle}" {place} {more}></mask>'


def write_cvat(
    path: Path,
    tracks: list[tuple[str, list[str]]],
    video: str = 'clip.mp4',
    size: tuple[int, int] | None = None,
    meta: str = '',
    names: tuple[str, ...] = (),
) -> Path:
    """Write tracks, each a label and its shapes, of a video of frames of size (H, W)."""
    labels = ''.join(f'<label><name>{name}</name><type>any</type></label>' for name in names)
    shown = f'<original_size><width>{size[1]}</width><height>{size[0]}</height></original_size>' if size else ''
    source = f'<source>{video}</source>' if video else ''
    head = f'<task><id>3</id><name>a task</name>{meta}<labels>{labels}</labels>{shown}{source}</task><dumped>x</dumped>'
    body = ''.join(
        f'<track id="{i}" label="{label}" source="manual">{"".join(shapes)}</track>'
        for i, (label, shapes) in enumerate(tracks)
    )
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta>{head}</meta>{body}'
    path.write_text(f'{text}</annotations>\n', encoding='utf-8')
    return path


# ---------------------------------------------------------------------- Label Studio
def brush(mask: np.ndarray, soft: int = 0) -> list[int]:
    """Bytes of a mask (H, W) in four channels; ``soft`` is the alpha of pixels around it."""
    alpha = np.where(mask, 255, soft).astype(np.uint8)
    values = np.repeat(alpha.ravel(), 4)  # (H, W) -> (H * W * 4,)
    bits = f'{len(values):032b}{7:05b}' + ''.join(f'{size - 1:04b}' for size in (3, 4, 8, 16))
    starts = np.flatnonzero(np.diff(values, prepend=~values[:1])).tolist()
    for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
        while start < end:
            length = min(end - start, 2**16)
            which, room = next((i, n) for i, n in enumerate((3, 4, 8, 16)) if length <= 2**n)
            if length > 6 or which:
                bits += f'1{which:02b}{length - 1:0{room}b}{values[start]:08b}'
            else:
                bits += f'0{which:02b}{length - 1:0{room}b}' + f'{values[start]:08b}' * length
            start += length
    bits += '0' * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def region(mask: np.ndarray, name: str, **more) -> dict:
    """A region of a result that was drawn with the brush."""
    value = dict(format='rle', rle=brush(mask), brushlabels=[name])
    size = dict(original_width=mask.shape[1], original_height=mask.shape[0], image_rotation=0)
    return (
        dict(id='r', type='brushlabels', origin='manual', to_name='image', from_name='tag', value=value, **size) | more
    )


def task(time: float, *annotations: list[dict] | dict, video: str = 'clip.mp4', **more) -> dict:
    """A task with annotations: the regions of each, or all of it."""
    notes = [note if isinstance(note, dict) else dict(id=7, was_cancelled=False, result=note) for note in annotations]
    return dict(id=9, data=dict(image='/data/upload/1/a.jpg', video=video, time=time), annotations=notes) | more


def write_tasks(path: Path, tasks: object) -> Path:
    """Write what is the content of an export."""
    path.write_text(json.dumps(tasks))
    return path


# ---------------------------------------------------------------------- what a converter made
class Made:
    """A split of a data set."""

    def __init__(self, root: Path, split: str = 'train') -> None:
        self.root = root
        self.rows = [line.split(',') for line in (root / 'metadata.csv').read_text('utf-8').splitlines()[1:]]
        self.names = {row[0]: row[1] for row in self.rows}  # as in a_obj, by uid
        self.label2idx = json.loads((root / 'label2idx.json').read_text())
        self.split = split

    def clip(self, uid: str) -> dict:
        """What the data set gives for a clip, with imgs and gt_seg_maps."""
        data = AVSBenchOVDataset(str(self.root), self.split, base_names='all')
        infos = (data.get_data_info(i) for i in range(len(data)))
        info = next(info for info in infos if info['clip_id'] == uid)
        return LoadClipLabels()(LoadClipFrames()(info))
