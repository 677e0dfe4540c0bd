# SPDX-License-Identifier: Apache-2.0
"""AVSBench-OV: AVSBench-semantic with its names divided into base and novel ones."""

import logging
import os.path as osp
from collections.abc import Iterable, Mapping, Sequence

from mmengine.fileio import exists, isdir, join_path
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from .bad_clips import ON_BAD_CLIP, next_readable
from .files import find_audio, find_frames, find_labels
from .metadata import (
    OV_SUBSETS,
    SPLITS,
    SUBSETS,
    check_base_only,
    clip_names,
    read_index,
    read_metadata,
    select_clips,
)
from .samplers import StreamIndex, own_chance
from .sound_lengths import describe_lengths
from .vocabulary import ALL_NAMES, PACKAGED_BASE_NAMES, Vocabulary

# Label maps are uint8 and 255 marks pixels without annotation.
MAX_NAMES = 254


@DATASETS.register_module()
class AVSBenchOVDataset(BaseSegDataset):
    """Clips of AVSBench-OV, or of any folder in the layout of AVSBench-semantic.

    ``<data_root>/<subset>/<uid>/{frames/%d.jpg, labels_rgb/%d.png, audio.wav}``, a frame a second,
    with ``metadata.csv`` and ``label2idx.json`` in ``data_root``. A clip without ``audio.wav`` is
    silent. All files of all clips of the split are looked for at the start; of sounds the header is
    read, other files are not opened.

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
        base_names (str | Sequence[str]): 'avsbench_ov' for the 40 base names of AVSBench-OV, 'all'
            for all names, a file with a name a line (relative to data_root), or the names.
        ann_file (str): the list of clips, relative to data_root.
        label_file (str): the table of labels, relative to data_root.
        with_labels (bool): False: label_paths are None, labels are not looked for.
        index_file (str, optional): index of the split, as tools/dataset_converters/avsbench_ov.py
            writes it (relative to the current folder); its clips are used as they are, in place of
            ann_file, subsets and the rule. Defaults to None.
        on_bad_clip (str): what a training does about a clip whose files cannot be read: 'raise' stops, 'skip' gives
            the next clip that can be read in its place; see :class:`BadClipsHook`, which logs and counts them. With
            test_mode=True it is always 'raise': figures of another test set would not be comparable.
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
        subsets: Sequence[str] = OV_SUBSETS,
        base_names: str | Sequence[str] = 'avsbench_ov',
        ann_file: str = 'metadata.csv',
        label_file: str = 'label2idx.json',
        with_labels: bool = True,
        index_file: str | None = None,
        on_bad_clip: str = 'raise',
        metainfo: dict | None = None,
        **kwargs,
    ):
        data_root = str(data_root)
        if split not in SPLITS:
            raise ValueError(f'split must be one of {", ".join(SPLITS)}, got {split!r}')
        if isinstance(subsets, str) or not subsets or not set(subsets) <= set(SUBSETS):
            raise ValueError(f'subsets must be some of {", ".join(SUBSETS)}, got {subsets!r}')
        if base_names is None:
            raise ValueError("base_names must be names, a file of them or 'all', got None")
        if on_bad_clip not in ON_BAD_CLIP:
            raise ValueError(f'on_bad_clip must be of {ON_BAD_CLIP}, got {on_bad_clip!r}')
        self.on_bad_clip = on_bad_clip
        self.split = split
        self.subsets = tuple(subsets)
        self.with_labels = with_labels
        self.index_file = index_file
        _check_root(data_root, (label_file,) if index_file else (ann_file, label_file))
        if isinstance(base_names, str) and base_names != ALL_NAMES:
            packaged = PACKAGED_BASE_NAMES.get(base_names)
            base_names = str(packaged) if packaged else join_path(data_root, base_names)
        self.vocabulary = Vocabulary.from_files(join_path(data_root, label_file), base_names)
        check_names_fit(self.vocabulary, join_path(data_root, label_file))
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix=dict(),
            metainfo=self._own_metainfo(metainfo or {}),
            **kwargs,
        )

    def __getitem__(self, idx: int) -> dict:
        """The packed sample of a clip; in a training with on_bad_clip='skip' maybe of another one.

        Raises:
            OSError: a file of the clip is missing or cannot be read.
            ValueError: the files of the clip do not fit together; with 'skip', too many clips in a row are bad.
        """
        if self.test_mode or self.on_bad_clip == 'raise':
            return super().__getitem__(idx)
        folder_of = lambda index: self.get_data_info(index)['clip_dir']  # noqa: E731
        return next_readable(super().__getitem__, idx, len(self), folder_of)

    def prepare_data(self, idx: int) -> dict | None:
        """A clip through the pipeline.

        What is random in it follows from the place in the training if :class:`SeededInfiniteSampler` says which, and
        from the generators of the process otherwise.

        Args:
            idx: of the clip.

        Returns:
            What the pipeline gives.
        """
        self._wanted = idx
        with own_chance(idx):
            return super().prepare_data(idx)

    def _rand_another(self) -> int:
        """Index of a clip in place of one for which the pipeline gave None."""
        if isinstance(self._wanted, StreamIndex):
            return self._wanted.another(len(self))
        return super()._rand_another()

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

        How many clips have shorter or much longer sound than frames is logged, in one line.

        Raises:
            FileNotFoundError: the folder of a clip or of its frames or labels is missing.
            ValueError: other problems with the clips. Either names the first few and counts all.
        """
        rows = self._rows()
        clips, problems = [], []
        for row in rows:
            try:
                clips.append(self._find_clip(row))
            except (FileNotFoundError, ValueError) as err:
                problems.append(err)
        if problems:
            shown = '\n  '.join(str(err) for err in problems[:5])
            message = (
                f'{len(problems)} of {len(rows)} clips cannot be used, such as:\n  {shown}\n'
                'tools/dataset_converters/avsbench_ov.py checks all clips, and can make indices '
                'without the bad ones (--fix-index)'
            )
            raise type(problems[0])(message) from problems[0]
        lengths = describe_lengths(clips)
        if lengths:
            print_log(f'{self.split}: {lengths}', 'current', logging.WARNING)
        return _add_other_audio(clips)

    def _rows(self) -> list[Mapping[str, str]]:
        """The clips of the split as rows of ``metadata.csv``, from the index or by the rule."""
        if self.index_file is None:
            rows = read_metadata(self.ann_file)
            rows = select_clips(rows, self.split, self.subsets, self.vocabulary.base)
            source = f'{self.ann_file} has no clip for split {self.split!r}, subsets '
            source += f'{", ".join(self.subsets)} and {len(self.vocabulary.base)} base names'
        else:
            clips = read_index(self.index_file, self.split)
            if self.split == 'train':
                check_base_only(self.index_file, clips, self.vocabulary.base)
            rows = [clip.as_row(self.split) | {'frames': clip.num_frames} for clip in clips]
            source = f'the index {self.index_file} has no clip'
        if not rows:
            raise ValueError(source)
        return rows

    def _find_clip(self, row: Mapping[str, str]) -> dict:
        """The sample of a row of ``metadata.csv``, but for other_audio_path."""
        clip_dir = join_path(self.data_root, row['label'], row['uid'])
        frames = find_frames(clip_dir, self.img_suffix)
        if len(frames) != row.get('frames', len(frames)):
            raise ValueError(
                f'{clip_dir}: {len(frames)} frames, {row["frames"]} in the index {self.index_file}'
            )
        labels = {}
        if self.with_labels:
            first_only = row['label'] == 'v1s' and row['split'] == 'train'
            labels = find_labels(clip_dir, frames, first_only, self.seg_map_suffix)
        return dict(
            clip_id=row['uid'],
            subset=row['label'],
            split=row['split'],
            clip_dir=clip_dir,
            num_frames=len(frames),
            frame_paths=[frames[i] for i in sorted(frames)],
            label_paths=[labels.get(i) for i in sorted(frames)],
            audio_path=find_audio(clip_dir),
            names=clip_names(row),
            vocabulary=self.vocabulary.names,
        )


def check_names_fit(vocabulary: Vocabulary, source: str) -> None:
    """Raise ValueError if label maps or ``a_obj`` cannot hold the names of a vocabulary.

    Args:
        vocabulary (Vocabulary): the names.
        source (str): where they are from, for the message.
    """
    if len(vocabulary) > MAX_NAMES:
        raise ValueError(
            f'at most {MAX_NAMES} names fit into label maps, {source} has {len(vocabulary)}'
        )
    joined = [name for name in vocabulary.names if '_' in name]
    if joined:
        raise ValueError(
            f'{source}: "_" separates the names of a clip, a name cannot have one: {joined[0]!r} '
            f'({len(joined)} such names); write it with "-" or a space'
        )


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
