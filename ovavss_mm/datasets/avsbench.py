# SPDX-License-Identifier: Apache-2.0
"""Base of the data sets: video clips with sound in the folders of AVSBench."""

import logging
import os.path as osp
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.fileio import exists, isdir, join_path
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset

from ..utils.text import shorten
from .files import find_audio, find_frames, find_labels, list_sounds
from .metadata import SPLITS, VISIBLE_FILE, read_visible
from .other_sounds import OtherSounds
from .samplers import SeededIndex, seeded_rng
from .transforms.loading import read_labels
from .transforms.sound_swaps import SwapClipAudio
from .vocabulary import Vocabulary

MAX_NAMES = 254  # label maps are uint8 and 255 marks pixels without annotation


class ClipDataset(BaseSegDataset):
    """Video clips with sound and label maps; a subclass says which clips there are.

    A subclass makes the vocabulary, overrides :meth:`rows`, and where its data differ :meth:`clip_dir`,
    :meth:`find_files`, :meth:`first_frame_only` or ``label_reader``. By default a clip is a folder
    ``<data_root>/<subset>/<uid>/{frames/%d.jpg, labels_rgb/%d.png, audio.wav}``, a frame a second; where
    ``audio.wav`` is missing another sound file is taken if it is the only one, else the clip is silent. All files of
    all clips are looked for at the start, none is opened; how many clips have sound is logged.

    A sample before the pipeline is a dict: clip_id (str), subset (str), split (str), clip_dir (str), num_frames (int),
    frame_paths (list[str]), label_paths (list[str | None], one a frame, None: not annotated), audio_path (str | None,
    None: silence), names (tuple[str], what sounds in the clip; may have names that are not in the vocabulary),
    visible_names (tuple[str], what is seen in it, as far as is known: at least names), other_sounds (OtherSounds, those
    of the split, to draw one that is not of the picture),
    vocabulary (Vocabulary, all N names; index i has label i + 1), label_reader (Callable, see there).

    ``metainfo`` has classes (background and the N names), palette, base_names and novel_names.

    Attributes:
        label_reader (Callable): ``(path, N, (H, W)) -> uint8 (H, W)``, 0 background, i + 1 name i; reads the label map
            of a frame of H x W pixels. Defaults to pictures in VOC colours.

    Args:
        data_root (str): folder of the data.
        split (str): 'train', 'val' or 'test'.
        vocabulary (Vocabulary): the N names, base and novel ones.
        with_labels (bool): False: label_paths are None, labels are not looked for. Defaults to True.
        on_bad_clip (str): what a training does about a clip whose files cannot be read: 'raise' stops, 'skip' gives
            another one; see :class:`BadClipsHook`, which logs and counts them. With test_mode=True it is always
            'raise': figures of another test set would not be comparable. Defaults to 'raise'.
        metainfo (dict, optional): what to add to ``metainfo``. Defaults to None.
        sounds (str | Sequence[str]): names of :class:`SwapClipAudio`, such as 'own', 'noise' and 'off_screen_6dB', for
            tests: each clip is there once with each of them. Defaults to none: each clip is there once, as it is.
        sound_seed (int): of the other clips' sounds, and the noise, that are drawn for ``sounds``. Defaults to 0.
        **kwargs: ann_file, pipeline, test_mode, lazy_init, indices, serialize_data and max_refetch of
            :class:`mmseg.datasets.BaseSegDataset`. max_refetch (default 20) is how many clips in a row may be bad.

    Raises:
        FileNotFoundError: data_root or the folder of a clip is missing.
        ValueError: a wrong argument, no clip in the split, or clips whose frames and labels are not as they should be.
    """

    label_reader = staticmethod(read_labels)
    advice = ''  # where clips cannot be used
    takes_seeded_index = True

    def __init__(
        self,
        data_root: str,
        split: str,
        vocabulary: Vocabulary,
        with_labels: bool = True,
        on_bad_clip: str = 'raise',
        metainfo: dict | None = None,
        sounds: str | Sequence[str] = (),
        sound_seed: int = 0,
        **kwargs: Any,
    ):
        sounds = [sounds] if isinstance(sounds, str) else list(sounds)
        if len(set(sounds)) < len(sounds) or (len(sounds) > 1 and 'own' not in sounds):
            raise ValueError(f"sounds must be different, with 'own' among them if there are several, got {sounds}")
        if sounds and not kwargs.get('test_mode'):
            raise ValueError(f'sounds are for tests; training has MixClipAudio: got {sounds} without test_mode=True')
        self.swaps = [SwapClipAudio.named(sound, sound_seed) for sound in sounds]
        if split not in SPLITS:
            raise ValueError(f'split must be one of {", ".join(SPLITS)}, got {split!r}')
        if on_bad_clip not in ('raise', 'skip'):
            raise ValueError(f"on_bad_clip must be 'raise' or 'skip', got {on_bad_clip!r}")
        self.split, self.vocabulary = split, vocabulary
        self.with_labels, self.on_bad_clip = with_labels, on_bad_clip
        self._bad_clips: list[tuple[str, str]] = []  # met since the last good one: folder, reason
        own = dict(classes=vocabulary.classes, palette=vocabulary.palette)
        own |= dict(base_names=vocabulary.base, novel_names=vocabulary.novel)
        if clash := sorted(set(own) & set(metainfo or {})):
            raise ValueError(f'metainfo cannot set {", ".join(clash)}: the vocabulary does')
        kwargs = dict(max_refetch=20) | kwargs
        super().__init__(data_root=data_root, data_prefix={}, metainfo=own | (metainfo or {}), **kwargs)

    def rows(self) -> list[Mapping]:
        """Clips of the split, to be overridden; ValueError if there is none.

        Returns:
            list[Mapping]: with uid (str), subset (str), split (str), names (tuple[str, ...]) and, if known, frames
            (int), their number.
        """
        raise NotImplementedError

    def clip_dir(self, row: Mapping) -> str:
        """Folder of a clip."""
        return join_path(self.data_root, row['subset'], row['uid'])

    def first_frame_only(self, row: Mapping) -> bool:
        """Whether only the first frame of a clip has a label map, as in training clips of v1s."""
        return row['subset'] == 'v1s' and row['split'] == 'train'

    def load_data_list(self) -> list[dict]:
        """Find the files of all clips of the split; see the class for the keys.

        Raises:
            FileNotFoundError: the folder of a clip or of its frames or labels is missing.
            ValueError: other problems with the clips. Either names the first few and counts all.
        """
        seen = read_visible(join_path(self.data_root, VISIBLE_FILE))
        rows, clips, problems = self.rows(), [], []
        for row in rows:
            try:
                clips.append(self._find_clip(row, seen.get(row['uid'], ())))
            except (FileNotFoundError, ValueError) as err:
                problems.append(err)
        if problems:
            found = shorten(problems, sep='\n  ')
            raise type(problems[0])(
                f'{len(problems)} of {len(rows)} clips cannot be used, such as:\n  {found}{self.advice}'
            ) from problems[0]
        log_sounds(self.split, clips)
        self.other_sounds = OtherSounds(clips)
        return [clip | dict(swap=i) for clip in clips for i in range(len(self.swaps))] or clips

    def find_files(self, row: Mapping) -> tuple[str, dict[int, str], dict[int, str], str | None]:
        """Folder of a clip, its frames and label maps by number, and its sound; None is silence.

        Raises:
            FileNotFoundError: a folder is missing.
            ValueError: frames and labels are not those expected.
        """
        clip_dir, labels = self.clip_dir(row), {}
        frames = find_frames(clip_dir, self.img_suffix)
        if self.with_labels:
            labels = find_labels(clip_dir, frames, self.first_frame_only(row), self.seg_map_suffix)
        return clip_dir, frames, labels, find_audio(clip_dir)

    def _find_clip(self, row: Mapping, visible: Sequence[str]) -> dict:
        """The sample of a row, whose clip shows other names too, see the class."""
        clip_dir, frames, labels, audio = self.find_files(row)
        if len(frames) != row.get('frames', len(frames)):
            raise ValueError(f'{clip_dir}: {len(frames)} frames, {row["frames"]} in the index')
        return dict(
            clip_id=row['uid'],
            subset=row['subset'],
            split=row['split'],
            clip_dir=clip_dir,
            num_frames=len(frames),
            frame_paths=[frames[i] for i in sorted(frames)],
            label_paths=[labels.get(i) for i in sorted(frames)],
            audio_path=audio,
            names=tuple(row['names']),
            visible_names=tuple(dict.fromkeys((*row['names'], *visible))),
        )

    def get_data_info(self, idx: int) -> dict:
        """The sample of a clip before the pipeline, see the class."""
        info = super().get_data_info(idx)
        info |= dict(label_reader=self.label_reader, vocabulary=self.vocabulary, other_sounds=self.other_sounds)
        return self.swaps[info.pop('swap')](info) if self.swaps else info

    def __getitem__(self, idx: int | SeededIndex) -> dict:
        """The packed sample of a clip, with the random numbers of a :class:`SeededIndex` if it is one.

        Raises:
            OSError: a file of the clip is missing or cannot be read.
            ValueError: the files of the clip do not fit together, or too many clips in a row are bad and skipped.
        """
        if isinstance(idx, SeededIndex):
            with seeded_rng(idx.seed, idx.position):
                return super().__getitem__(idx.index)
        return super().__getitem__(idx)

    def prepare_data(self, idx: int) -> dict | None:
        """A clip through the pipeline; None for a bad one if another is to be given in its place.

        The sample that is given then has the metainfo ``bad_clips``, ``[(folder, reason), ...]``.
        """
        try:
            data = super().prepare_data(idx)
        except (OSError, ValueError) as error:  # of a file that is missing, damaged or not what it should be
            if self.test_mode or self.on_bad_clip == 'raise':
                raise
            self._note_bad_clip(idx, error)
            return None
        if self._bad_clips:
            data['data_samples'].set_metainfo(dict(bad_clips=self._bad_clips))
            self._bad_clips = []
        return data

    def _note_bad_clip(self, idx: int, error: Exception) -> None:
        """Warn of a bad clip; ValueError if there were too many in a row to be the clips' fault."""
        folder = self.get_data_info(idx)['clip_dir']
        bad = self._bad_clips
        bad.append((folder, f'{type(error).__name__}: {error}'))
        warnings.warn(f'bad clip {folder}: {bad[-1][1]}', RuntimeWarning, stacklevel=2)
        if len(bad) > self.max_refetch:
            self._bad_clips = []
            raise ValueError(
                f'{len(bad)} clips in a row cannot be read, from {bad[0][0]} ({bad[0][1]}) to {folder} '
                f'({bad[-1][1]}): is the disk there, and does the pipeline fit the data?'
            ) from error


def check_names_fit(vocabulary: Vocabulary, source: str) -> None:
    """Raise ValueError if label maps or ``a_obj`` cannot hold the names of a vocabulary, which are from ``source``."""
    if len(vocabulary) > MAX_NAMES:
        raise ValueError(f'at most {MAX_NAMES} names fit into label maps, {source} has {len(vocabulary)}')
    joined = [name for name in vocabulary.names if '_' in name]
    if joined:
        raise ValueError(
            f'{source}: "_" separates the names of a clip, a name cannot have one: {joined[0]!r} ({len(joined)} such '
            'names); write it with "-" or a space'
        )


def check_root(data_root: str, files: Iterable[str]) -> None:
    """Raise FileNotFoundError, saying what to do, if a folder or one of its files is not there."""
    hint = 'data/README.md says how to get the data and where to put them'
    if osp.basename(osp.normpath(data_root)) == 'mini':
        hint = f'make them with: python tools/dataset_converters/mini_world.py --out {data_root}'
    if not isdir(data_root):
        raise FileNotFoundError(f'data_root {osp.abspath(data_root)} does not exist; {hint}')
    for name in files:
        path = join_path(data_root, name)
        if not exists(path):
            raise FileNotFoundError(f'data_root {data_root} has no {name} ({path}); {hint}')


def log_sounds(split: str, clips: list[dict]) -> None:
    """Log how many clips have sound; a warning if other files than ``audio.wav`` are there, or none has sound."""
    paths = [clip['audio_path'] for clip in clips if clip['audio_path']]
    silent = [clip['clip_dir'] for clip in clips if not clip['audio_path']]
    usual = {'audio.wav', *(f'{clip["clip_id"]}.wav' for clip in clips)}  # the latter in AVSBench-object
    renamed = [path for path in paths if osp.basename(path) not in usual]
    unused = [join_path(folder, name) for folder in silent for name in list_sounds(folder)]
    lines = [f'split {split}: {len(paths)} of {len(clips)} clips have sound']
    if silent:
        lines.append(f'no sound file, silent: {len(silent)} ({shorten(silent, 3)})')
    if renamed:
        lines.append(f'no audio.wav, the only other sound file is taken: {len(renamed)} ({shorten(renamed, 3)})')
    if unused:
        lines.append(
            f'sound files passed over, as a folder has several or they are of a kind that is not read: {len(unused)} '
            f'({shorten(unused, 3)}); to convert one: ffmpeg -i FILE -vn -ac 1 audio.wav'
        )
    print_log('\n  '.join(lines), 'current', logging.WARNING if renamed or unused or not paths else logging.INFO)
