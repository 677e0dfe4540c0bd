# SPDX-License-Identifier: Apache-2.0
"""The closed-set tasks of AVSBench: S4, MS3 and AVSS, in both of the layouts in which it is distributed."""

import csv
import io
import os.path as osp
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from mmengine.fileio import exists, isdir, join_path, list_dir_or_file
from mmseg.registry import DATASETS

from .avsbench import ClipDataset, check_names_fit, check_root
from .files import is_plain, read_utf8
from .metadata import SPLITS, clip_names, read_metadata
from .transforms.loading import LabelSizeError, read_rgb
from .vocabulary import ALL_NAMES, Vocabulary

SOUNDING = 'sounding'  # the one name of a binary task
_NUMBER = re.compile(r'_(\d+)\.(?:png|jpg)')


class Task(NamedTuple):
    """What a task is made of.

    Attributes:
        subsets (tuple[str, ...]): of AVSBench-semantic.
        folder (str): of the task in AVSBench-object, '' where it is not there.
        key (str): with which the files of the task begin in AVSBench-object.
    """

    subsets: tuple[str, ...]
    folder: str = ''
    key: str = ''

    @property
    def binary(self) -> bool:
        """Whether a pixel sounds or does not."""
        return bool(self.key)


TASKS = dict(
    s4=Task(('v1s',), 'Single-source', 's4'),
    ms3=Task(('v1m',), 'Multi-sources', 'ms3'),
    avss=Task(('v1s', 'v1m', 'v2')),
)


@DATASETS.register_module()
class AVSBenchDataset(ClipDataset):
    """Clips of S4 (one source), MS3 (several) or AVSS (71 classes) as their benchmarks define them.

    All clips of the task's subsets are used, and labels are taken as they are. S4 and MS3 have one name, 'sounding'.
    The layout is told from the files: AVSBench-semantic has ``metadata.csv`` (see :class:`AVSBenchOVDataset`);
    AVSBench-object has, in ``data_root`` or its folder ``Single-source`` or ``Multi-sources``,
    ``s4_meta_data.csv`` with ``s4_data/{visual_frames,gt_masks,audio_wav}/<split>/<category>/<name>`` or
    ``ms3_meta_data.csv`` with ``ms3_data/{visual_frames/<name>,gt_masks/<split>/<name>,audio_wav/<split>/<name>.wav}``,
    whose pictures end in ``_1.png`` to ``_5.png``.

    Args:
        data_root (str): folder of the data.
        split (str): 'train', 'val' or 'test'.
        task (str): 's4', 'ms3' or 'avss'.
        **kwargs: with_labels, on_bad_clip and metainfo of :class:`ClipDataset`; pipeline, test_mode, lazy_init,
            indices, serialize_data and max_refetch.

    Raises:
        FileNotFoundError: data_root, or what its layout needs, is missing.
        ValueError: another task, AVSS in AVSBench-object, a malformed file, or see :class:`ClipDataset`.
    """

    def __init__(self, data_root: str, split: str, task: str, **kwargs: Any):
        if task not in TASKS:
            raise ValueError(f'task must be one of {", ".join(TASKS)}, got {task!r}')
        self.task = TASKS[task]
        root, index = self._find_layout(str(data_root), task)
        if self.task.binary:
            vocabulary = Vocabulary([SOUNDING], base=[SOUNDING])
            self.label_reader = read_binary_mask
        else:
            label_file = join_path(root, 'label2idx.json')
            check_root(root, ('label2idx.json',))
            vocabulary = Vocabulary.from_files(label_file, ALL_NAMES)
            check_names_fit(vocabulary, label_file)
        super().__init__(root, split, vocabulary, ann_file=index, **kwargs)

    def _find_layout(self, data_root: str, task: str) -> tuple[str, str]:
        """Root of the task's data, and name of its list of clips."""
        check_root(data_root, ())
        if exists(join_path(data_root, 'metadata.csv')):
            return data_root, 'metadata.csv'
        index = f'{self.task.key}_meta_data.csv'
        for folder in (data_root, join_path(data_root, self.task.folder)):
            if self.task.binary and exists(join_path(folder, index)):
                return folder, index
        wanted = f', or {index} as AVSBench-object has it (also in {self.task.folder}/)' if self.task.binary else ''
        found = sorted(list_dir_or_file(data_root, recursive=False))[:8]
        raise FileNotFoundError(
            f'{osp.abspath(data_root)} is in no known layout of {task}: it has neither metadata.csv, as '
            f'AVSBench-semantic has it{wanted}; it has {", ".join(found) or "nothing"}'
        )

    @property
    def is_object_layout(self) -> bool:
        """Whether the data are in the layout of AVSBench-object."""
        return osp.basename(self.ann_file) != 'metadata.csv'

    def rows(self) -> list[Mapping]:
        """Clips of the split, all those of the task's subsets; ValueError if there is none."""
        rows: list[Any]
        if self.is_object_layout:
            rows = [row for row in read_object_index(self.ann_file) if row['split'] == self.split]
            rows = [row | dict(subset=self.task.subsets[0]) for row in rows]
        else:
            classes = None if self.task.binary else self.vocabulary
            found = [r for r in read_metadata(self.ann_file, classes) if r['label'] in self.task.subsets]
            rows = [
                dict(uid=r['uid'], subset=r['label'], split=self.split, names=clip_names(r))
                for r in found
                if r['split'] == self.split
            ]
        if not rows:
            raise ValueError(f'{self.ann_file} has no clip of {", ".join(self.task.subsets)} in split {self.split!r}')
        return rows

    def get_data_info(self, idx: int) -> dict:
        """The sample of a clip, whose labels are taken as they are: of all names, whichever the clip lists."""
        return super().get_data_info(idx) | dict(label_names=self.vocabulary.names)

    def find_files(self, row: Mapping) -> tuple[str, dict[int, str], dict[int, str], str | None]:
        """See :class:`ClipDataset`."""
        if not self.is_object_layout:
            return super().find_files(row)
        data = join_path(osp.dirname(self.ann_file), f'{self.task.key}_data')
        places = [row['split'], *row['names']]
        folder, labels = _first_folder(join_path(data, 'visual_frames'), row['uid'], places), {}
        frames = _numbered_pictures(folder)
        if self.with_labels:
            found = _numbered_pictures(_first_folder(join_path(data, 'gt_masks'), row['uid'], places))
            wanted = {min(frames)} if self.first_frame_only(row) else set(frames)
            if not wanted <= set(found):
                raise ValueError(
                    f'{folder}: {len(frames)} frames, masks of {sorted(found)}, wanted of {sorted(wanted)}'
                )
            labels = {i: found[i] for i in wanted}
        sounds = [join_path(data, 'audio_wav', *path, f'{row["uid"]}.wav') for path in (places, places[:1], ())]
        return folder, frames, labels, next((path for path in sounds if exists(path)), None)


def read_binary_mask(path: str, num_names: int, shape: tuple[int, int]) -> np.ndarray:
    """Read a mask, or a label map in colours, as uint8 (H, W): 1 where it is not black.

    Raises:
        OSError: it is missing or cannot be read.
        LabelSizeError: it has another size than its frame.
    """
    colors = read_rgb(path)
    if colors.shape[:2] != tuple(shape):
        raise LabelSizeError(f'the mask {path} has {colors.shape[:2]} rows and columns, its frame has {tuple(shape)}')
    return np.any(colors, -1).astype(np.uint8)


def read_object_index(path: str) -> list[dict]:
    """Read the list of clips of S4 or MS3 in AVSBench-object.

    Its column ``name`` or ``video_id``, else the first one, is the name of a clip; it has a column ``split`` and, in
    S4, ``category``.

    Returns:
        list[dict]: with uid, split and names, the category if there is one.

    Raises:
        ValueError: the file is malformed, or has a clip twice; the message names the line.
    """
    reader = csv.DictReader(io.StringIO(read_utf8(path), newline=''))
    columns = list(reader.fieldnames or ())
    if 'split' not in columns:
        raise ValueError(f'{path}, line 1: no column split, it has {", ".join(columns) or "none"}')
    key = next((name for name in ('name', 'video_id') if name in columns), columns[0])
    rows, seen = [], set()
    for row in reader:
        uid, split, category = row[key], row['split'], row.get('category') or ''
        plain = all(is_plain(x) and not set(x) & set('/\\') and x not in ('.', '..') for x in (uid or '', category))
        if not uid or split not in SPLITS or not plain:
            raise ValueError(f'{path}, line {reader.line_num}: no name and split of a clip: {uid!r}, {split!r}')
        if (uid, split, category) in seen:
            raise ValueError(f'{path}, line {reader.line_num}: the clip {uid} is there twice')
        seen.add((uid, split, category))
        rows.append(dict(uid=uid, split=split, names=(category,) if category else ()))
    return rows


def _first_folder(root: str, uid: str, places: list[str]) -> str:
    """The folder of a clip: below split and category, split, or neither."""
    folders = [join_path(root, *path, uid) for path in (places, places[:1], ())]
    found = next((folder for folder in folders if isdir(folder)), None)
    if found is None:
        raise FileNotFoundError(f'{folders[0]}: no such folder')
    return found


def _numbered_pictures(folder: str) -> dict[int, str]:
    """Pictures of a folder by the number at the end of their names; ValueError if there is none."""
    found = {}
    for name in list_dir_or_file(folder, list_dir=False):
        match = _NUMBER.fullmatch(name[name.rfind('_') :]) if '_' in name else None
        if match:
            found[int(match[1])] = join_path(folder, name)
    if not found:
        raise ValueError(f'{folder}: no pictures whose names end in _1.png and so on')
    return found
