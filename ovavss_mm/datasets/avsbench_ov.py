# SPDX-License-Identifier: Apache-2.0
"""AVSBench-OV: AVSBench-semantic with its names divided into base and novel ones."""

import csv
import io
import os.path as osp
from collections.abc import Collection, Iterable, Mapping, Sequence

from mmengine.fileio import exists, get_text, isdir, join_path, list_dir_or_file
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from .vocabulary import PACKAGED_BASE_NAMES, Vocabulary

SPLITS = ('train', 'val', 'test')
SUBSETS = ('v1s', 'v1m', 'v2')
COLUMNS = ('uid', 'a_obj', 'split', 'label')
# Label maps are uint8 and 255 marks pixels without annotation.
MAX_NAMES = 254


def clip_names(row: Mapping[str, str]) -> tuple[str, ...]:
    """The names of what sounds in a clip, from its row of ``metadata.csv``."""
    return tuple(row['a_obj'].split('_'))


def select_clips(
    rows: Iterable[Mapping[str, str]],
    split: str,
    subsets: Collection[str] = ('v1s', 'v2'),
    base: Collection[str] = (),
) -> list[Mapping[str, str]]:
    """The AVSBench-OV rule: which clips belong to a split.

    Args:
        rows (Iterable[Mapping]): rows of ``metadata.csv``.
        split (str): 'train', 'val' or 'test'. Clips of other splits are left out.
        subsets (Collection[str]): clips of other subsets are left out.
        base (Collection[str]): base names. A training clip stays only if each of its names is one
            of them; for val and test they do not matter.

    Returns:
        list[Mapping]: the rows that stay, in their order.
    """
    base = set(base)
    return [
        row
        for row in rows
        if row['split'] == split
        and row['label'] in subsets
        and (split != 'train' or base.issuperset(clip_names(row)))
    ]


def read_metadata(path: str) -> list[dict[str, str]]:
    """Read and check ``metadata.csv``.

    Returns:
        list[dict]: one a clip, with at least the keys uid, a_obj, split and label.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is malformed; the message names the line.
    """
    if not exists(path):
        raise FileNotFoundError(f'no such file: {path}')
    reader = csv.DictReader(io.StringIO(get_text(path, encoding='utf-8-sig'), newline=''))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f'{path}, line 1: no column {", ".join(missing)}')
    rows, first_line = [], {}
    try:
        for row in reader:
            problem = _row_problem(row)
            if not problem and row['uid'] in first_line:
                problem = f'clip {row["uid"]!r} was in line {first_line[row["uid"]]} already'
            if problem:
                raise ValueError(f'{path}, line {reader.line_num}: {problem}')
            first_line[row['uid']] = reader.line_num
            rows.append(row)
    except csv.Error as err:
        raise ValueError(f'{path}, line {reader.line_num}: {err}') from err
    return rows


def _row_problem(row: dict) -> str | None:
    """What is wrong with a row of ``metadata.csv``, if anything."""
    if None in row or None in row.values():
        return 'the number of fields is not that of the header'
    if row['split'] not in SPLITS:
        return f'split must be one of {", ".join(SPLITS)}, got {row["split"]!r}'
    if row['label'] not in SUBSETS:
        return f'label must be one of {", ".join(SUBSETS)}, got {row["label"]!r}'
    if not all(name.strip() for name in clip_names(row)):
        return f'a_obj must be names joined by "_", got {row["a_obj"]!r}'
    if osp.basename(row['uid']) != row['uid'] or row['uid'] in ('', '.', '..'):
        return f'uid must be the name of a folder, got {row["uid"]!r}'
    return None


@DATASETS.register_module()
class AVSBenchOVDataset(BaseSegDataset):
    """Clips of AVSBench-OV, or of any folder in the layout of AVSBench-semantic.

    ``<data_root>/<subset>/<uid>/{frames/%d.jpg, labels_rgb/%d.png, audio.wav}``, a frame a second,
    with ``metadata.csv`` and ``label2idx.json`` in ``data_root``. A clip without ``audio.wav`` is
    silent. All files of all clips of the split are looked for at the start, none is opened.

    A sample before the pipeline is a dict:
        clip_id (str), subset (str), split (str), clip_dir (str), num_frames (int),
        frame_paths (list[str]), label_paths (list[str | None], one a frame, None: not annotated),
        audio_path (str | None, None: silence), other_audio_path (str | None, sound of another clip
        of the split at least as long, with no name in common if there is one),
        names (tuple[str], what sounds in the clip; may have names that are not in the vocabulary),
        vocabulary (tuple[str], all N names; index i has label i + 1).

    ``metainfo`` has classes (background and the N names), palette, base_names and novel_names.

    Args:
        data_root (str): folder of the data.
        split (str): 'train', 'val' or 'test'. A training clip is used only if all its names are
            base names.
        subsets (Sequence[str]): which of 'v1s', 'v1m', 'v2' to use.
        base_names (str | Sequence[str]): 'avsbench_ov' for the 40 base names of AVSBench-OV, a file
            with a name a line (relative to data_root), or the names.
        ann_file (str): the list of clips, relative to data_root.
        label_file (str): the table of labels, relative to data_root.
        with_labels (bool): False: label_paths are None, labels are not looked for.
        **kwargs: pipeline, test_mode, lazy_init, indices, serialize_data, max_refetch and metainfo
            of :class:`mmseg.datasets.BaseSegDataset`.

    Raises:
        FileNotFoundError: data_root, one of its files, or the folder of a clip is missing.
        ValueError: a wrong argument, a malformed file (the message names file and line), no clip in
            the split, or clips whose frames and labels are not what they should be.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        subsets: Sequence[str] = ('v1s', 'v2'),
        base_names: str | Sequence[str] = 'avsbench_ov',
        ann_file: str = 'metadata.csv',
        label_file: str = 'label2idx.json',
        with_labels: bool = True,
        metainfo: dict | None = None,
        **kwargs,
    ):
        data_root = str(data_root)
        if split not in SPLITS:
            raise ValueError(f'split must be one of {", ".join(SPLITS)}, got {split!r}')
        if isinstance(subsets, str) or not subsets or not set(subsets) <= set(SUBSETS):
            raise ValueError(f'subsets must be some of {", ".join(SUBSETS)}, got {subsets!r}')
        self.split = split
        self.subsets = tuple(subsets)
        self.with_labels = with_labels
        _check_root(data_root, (ann_file, label_file))
        if isinstance(base_names, str):
            packaged = PACKAGED_BASE_NAMES.get(base_names)
            base_names = str(packaged) if packaged else join_path(data_root, base_names)
        self.vocabulary = Vocabulary.from_files(join_path(data_root, label_file), base_names)
        if len(self.vocabulary) > MAX_NAMES:
            raise ValueError(
                f'at most {MAX_NAMES} names fit into label maps, {label_file} of {data_root} has '
                f'{len(self.vocabulary)}'
            )
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix=dict(),
            metainfo=self._own_metainfo(metainfo or {}),
            **kwargs,
        )

    def _own_metainfo(self, extra: Mapping) -> dict:
        """What the vocabulary says, and what the user adds to it."""
        own = dict(
            classes=self.vocabulary.classes,
            palette=self.vocabulary.palette,
            base_names=self.vocabulary.base,
            novel_names=self.vocabulary.novel,
        )
        clash = sorted(set(own) & set(extra))
        if clash:
            raise ValueError(f'metainfo cannot set {", ".join(clash)}: the vocabulary does')
        return own | dict(extra)

    def load_data_list(self) -> list[dict]:
        """Find the files of all clips of the split; see the class for the keys.

        Raises:
            FileNotFoundError: the folder of a clip or of its frames or labels is missing.
            ValueError: other problems with the clips. Either names the first few and counts all.
        """
        rows = read_metadata(self.ann_file)
        rows = select_clips(rows, self.split, self.subsets, self.vocabulary.base)
        if not rows:
            raise ValueError(
                f'{self.ann_file} has no clip for split {self.split!r}, subsets '
                f'{", ".join(self.subsets)} and {len(self.vocabulary.base)} base names'
            )
        clips, problems = [], []
        for row in rows:
            try:
                clips.append(self._find_clip(row))
            except (FileNotFoundError, ValueError) as err:
                problems.append(err)
        if problems:
            shown = '\n  '.join(str(err) for err in problems[:5])
            message = f'{len(problems)} of {len(rows)} clips cannot be used, such as:\n  {shown}'
            raise type(problems[0])(message) from problems[0]
        return _add_other_audio(clips)

    def _find_clip(self, row: Mapping[str, str]) -> dict:
        """The sample of a row of ``metadata.csv``, but for other_audio_path."""
        clip_dir = join_path(self.data_root, row['label'], row['uid'])
        if not isdir(clip_dir):
            raise FileNotFoundError(f'{clip_dir}: no such folder')
        frames = _numbered_files(join_path(clip_dir, 'frames'), self.img_suffix)
        if not frames:
            raise ValueError(f'{clip_dir}/frames: no {self.img_suffix} files')
        first, last = min(frames), max(frames)
        if len(frames) != last - first + 1:
            gap = next(i for i in range(first, last) if i not in frames)
            raise ValueError(f'{clip_dir}/frames: {gap}{self.img_suffix} is missing')
        labels = self._find_labels(clip_dir, frames, row) if self.with_labels else {}
        audio_path = join_path(clip_dir, 'audio.wav')
        return dict(
            clip_id=row['uid'],
            subset=row['label'],
            split=row['split'],
            clip_dir=clip_dir,
            num_frames=len(frames),
            frame_paths=[frames[i] for i in sorted(frames)],
            label_paths=[labels.get(i) for i in sorted(frames)],
            audio_path=audio_path if exists(audio_path) else None,
            names=clip_names(row),
            vocabulary=self.vocabulary.names,
        )

    def _find_labels(
        self, clip_dir: str, frames: dict[int, str], row: Mapping[str, str]
    ) -> dict[int, str]:
        """Label files by number; a training clip of v1s has that of its first frame only."""
        labels = _numbered_files(join_path(clip_dir, 'labels_rgb'), self.seg_map_suffix)
        first_only = row['label'] == 'v1s' and row['split'] == 'train'
        expected = {min(frames)} if first_only else set(frames)
        if set(labels) != expected:
            needed = 'one for the first frame' if first_only else 'one a frame'
            found = ', '.join(map(str, sorted(labels))) or 'none'
            raise ValueError(
                f'{clip_dir}: {len(frames)} frames ({min(frames)} to {max(frames)}) and '
                f'{len(labels)} labels ({found}), expected {needed}'
            )
        return labels


def _check_root(data_root: str, files: Iterable[str]) -> None:
    """Raise FileNotFoundError with what to do if the data are not there."""
    if osp.basename(osp.normpath(data_root)) == 'mini':
        hint = f'make them with: python tools/dataset_converters/mini_world.py --out {data_root}'
    else:
        hint = 'data/README.md says how to get the data and where to put them'
    if not isdir(data_root):
        raise FileNotFoundError(f'data_root {osp.abspath(data_root)} does not exist; {hint}')
    for name in files:
        path = join_path(data_root, name)
        if not exists(path):
            raise FileNotFoundError(f'data_root {data_root} has no {name} ({path}); {hint}')


def _numbered_files(folder: str, suffix: str) -> dict[int, str]:
    """Files ``<number><suffix>`` of a folder by number; other suffixes are passed over."""
    files = {}
    try:
        for name in list_dir_or_file(folder, list_dir=False, suffix=suffix):
            stem = name[: -len(suffix)]
            if not (stem.isascii() and stem.isdigit()):
                raise ValueError(f'{folder}/{name}: the name should be a number')
            if int(stem) in files:
                raise ValueError(f'{folder}: number {int(stem)} occurs twice')
            files[int(stem)] = join_path(folder, name)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f'{folder}: no such folder') from None
    return files


def _add_other_audio(clips: list[dict]) -> list[dict]:
    """Give each clip other_audio_path; the same clips in the same order get the same."""
    pools = {
        length: [c for c in clips if c['audio_path'] and c['num_frames'] >= length]
        for length in {c['num_frames'] for c in clips}
    }
    for i, clip in enumerate(clips):
        pool = pools[clip['num_frames']]
        # Neighbours in the list often show the same, so the search starts half a list away.
        start = i * len(pool) // len(clips) + len(pool) // 2
        others = (pool[(start + k) % len(pool)] for k in range(len(pool)))
        clip['other_audio_path'] = _other_audio(clip, others)
    return clips


def _other_audio(clip: dict, others: Iterable[dict]) -> str | None:
    """Sound of the first other clip with no name in common, else of the first, else None."""
    fallback = None
    for other in others:
        if other['clip_id'] == clip['clip_id']:
            continue
        if set(other['names']).isdisjoint(clip['names']):
            return other['audio_path']
        fallback = fallback or other['audio_path']
    return fallback
