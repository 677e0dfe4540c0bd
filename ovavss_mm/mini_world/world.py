# SPDX-License-Identifier: Apache-2.0
"""The mini world on disk, in the layout of AVSBench-semantic."""

import csv
import json
import os
import shutil
import zlib
from collections import deque
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil
from pathlib import Path

import cv2
import numpy as np
import soundfile
from mmengine.utils import track_progress_rich

from ..datasets.metadata import NUM_FRAMES, VISIBLE_FILE
from ..datasets.palette import voc_palette
from ..utils.files import atomic_path
from .drawing import render_pictures
from .names import BASE_NAMES, NAMES, NOVEL_NAMES
from .scene import sample_scene
from .sound import SAMPLE_RATE, render_sound

GENERATOR_VERSION = 3
STAMP = '.complete.json'
JPEG_QUALITY = 92
METADATA_FIELDS = ('vid', 'uid', 's_min', 's_sec', 'a_obj', 'split', 'label')


@dataclass(frozen=True)
class WorldParams:
    """What decides the content of a world: a seed, and the number of clips of each split."""

    seed: int = 0
    train: int = 480  # of AVSBench-OV, as val and test; the clips that its rule drops (v1m, a novel name) come on top
    val: int = 24
    test: int = 96

    def __post_init__(self):
        for field, value in asdict(self).items():
            if value < 0:
                raise ValueError(f'{field} must not be negative, got {value}')

    def stamp(self) -> str:
        """Content of the file that a complete world has."""
        return json.dumps({'world': 'mini', 'generator_version': GENERATOR_VERSION, **asdict(self)}, indent=2) + '\n'


@dataclass(frozen=True)
class ClipPlan:
    """One clip before its scene is sampled: where it belongs and which names it shows."""

    uid: str
    subset: str
    split: str
    sounding: tuple[str, ...]
    silent: tuple[str, ...]

    @property
    def first_frame_only(self) -> bool:
        """Whether only second 0 is labelled, as in training clips of v1s."""
        return self.split == 'train' and self.subset == 'v1s'


class _NameDeck:
    """Deals names so that each comes up equally often."""

    def __init__(self, rng: np.random.Generator, names: tuple[str, ...]):
        self.rng, self.names = rng, names
        self.queue: deque[str] = deque()

    def deal(self, taken: tuple[str, ...]) -> str:
        """The next name that is not taken yet."""
        if all(name in taken for name in self.queue):
            self.queue.extend(str(name) for name in self.rng.permutation(self.names))
        name = next(name for name in self.queue if name not in taken)
        self.queue.remove(name)
        return name


def plan_world(params: WorldParams) -> list[ClipPlan]:
    """Decide all clips of a world, in the order of metadata.csv: train, val and test of AVSBench-OV, then v1m.

    Every second training clip is of v2 and every third one elsewhere; the rest are of v1s. On top of them (rounded up)
    come a training clip of v1m for 80, one with a novel sounding name for 48, and clips of v1m in which two objects
    sound, for MS3: one for 10 of training, for 3 of validation, for 4 of testing.
    """
    parts = [
        ('train', ('v1s', 'v2'), params.train, BASE_NAMES, BASE_NAMES),
        ('train', ('v1m',), ceil(params.train / 80), BASE_NAMES, BASE_NAMES),
        ('train', ('v1s', 'v2'), ceil(params.train / 48), NOVEL_NAMES, BASE_NAMES),
        ('val', ('v1s', 'v1s', 'v2'), params.val, NAMES, NAMES),
        ('test', ('v1s', 'v1s', 'v2'), params.test, NAMES, NAMES),
        ('train', ('v1m',), ceil(params.train / 10), NAMES, NAMES),
        ('val', ('v1m',), ceil(params.val / 3), NAMES, NAMES),
        ('test', ('v1m',), ceil(params.test / 4), NAMES, NAMES),
    ]
    first_of_ms3 = 5
    plans: list[ClipPlan] = []
    for part, (split, subsets, count, sounding_names, silent_names) in enumerate(parts):
        rng = np.random.default_rng((params.seed, part))
        decks = _NameDeck(rng, sounding_names), _NameDeck(rng, silent_names)
        for index in range(count):
            subset = subsets[index % len(subsets)]
            sounding, silent = _deal_names(rng, decks, two_sound=part >= first_of_ms3 or index // len(subsets) % 4 == 3)
            uid = f'mini{len(plans):04d}_0_{NUM_FRAMES[subset] * 1000}'
            plans.append(ClipPlan(uid, subset, split, sounding, silent))
    return plans


def _deal_names(rng, decks, two_sound: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Deal the sounding and the silent names of a clip: 1, 2 or 3 in all."""
    num_objects = int(rng.choice((1, 2, 3), p=(0.1, 0.6, 0.3)))
    num_sounding = 2 if two_sound else 1
    names: tuple[str, ...] = ()
    for index in range(max(num_objects, num_sounding)):
        names += (decks[0 if index < num_sounding else 1].deal(names),)
    return names[:num_sounding], names[num_sounding:]


def write_clip(plan: ClipPlan, root: str | Path, seed: int) -> None:
    """Render a planned clip into ``<root>/<subset>/<uid>/``; its content depends on the seed and the plan only."""
    rng = np.random.default_rng((seed, zlib.crc32(plan.uid.encode())))
    scene = sample_scene(rng, plan.sounding, plan.silent, NUM_FRAMES[plan.subset], plan.first_frame_only)
    frames, labels = render_pictures(scene)
    folder = Path(root) / plan.subset / plan.uid
    palette = np.array(voc_palette(len(NAMES) + 1), dtype=np.uint8)
    for name in ('frames', 'labels_rgb'):
        (folder / name).mkdir(parents=True)
    for index, frame in enumerate(frames):
        _write_picture(folder / 'frames' / f'{index}.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    for index, label in enumerate(labels[:1] if plan.first_frame_only else labels):
        _write_picture(folder / 'labels_rgb' / f'{index}.png', palette[label], [])
    samples = np.rint(render_sound(scene).astype(np.float64) * 32767).astype(np.int16)
    soundfile.write(folder / 'audio.wav', samples, SAMPLE_RATE)


def _write_picture(path: Path, picture: np.ndarray, options: list[int]) -> None:
    """Write an RGB picture in the format of the file's suffix."""
    if not cv2.imwrite(str(path), picture[..., ::-1], options):
        raise OSError(f'cannot write {path}: is the disk full?')


def _write_tables(plans: list[ClipPlan], root: Path) -> None:
    """Write metadata.csv, visible.csv, label2idx.json and base_names.txt."""
    with (root / 'metadata.csv').open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(METADATA_FIELDS)
        for plan in plans:
            vid, names = plan.uid.split('_')[0], '_'.join(plan.sounding)
            writer.writerow((vid, plan.uid, 0, 0, names, plan.split, plan.subset))
    with (root / VISIBLE_FILE).open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(('uid', 'v_obj'))
        writer.writerows((plan.uid, '_'.join((*plan.sounding, *plan.silent))) for plan in plans)
    index = {name: label for label, name in enumerate(('background', *NAMES))}
    (root / 'label2idx.json').write_text(json.dumps(index, indent=2) + '\n', encoding='utf-8')
    (root / 'base_names.txt').write_text('\n'.join(BASE_NAMES) + '\n', encoding='utf-8')


def build_world(out: str | Path, params: WorldParams, force: bool = False, workers: int = 1) -> bool:
    """Generate a mini world, byte for byte the same for the same parameters, beside its place and move it there.

    Args:
        out (str | Path): folder of the world; absent, empty or a mini world.
        params (WorldParams): the world's parameters.
        force (bool): whether to replace a mini world that is there. Defaults to False.
        workers (int): processes; the result does not depend on it. Defaults to 1.

    Returns:
        bool: True if the world was built, False if it was there already.

    Raises:
        FileExistsError: ``out`` holds something else, or another world and not ``force``.
        ValueError: ``workers`` is below 1.
    """
    if workers < 1:
        raise ValueError(f'workers must be at least 1, got {workers}')
    root = Path(os.path.abspath(out))
    stamp = root / STAMP
    if stamp.is_file():
        found = stamp.read_text(encoding='utf-8', errors='replace')
        if found == params.stamp() and not force:
            return False
        if not force:
            raise FileExistsError(
                f'{root} holds a mini world of other parameters or of another version ({found.strip()}); pass --force '
                'to replace it.'
            )
    elif root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise FileExistsError(
            f'{root} exists and is no mini world (it has no {STAMP}); nothing was written. Choose another --out or '
            'remove it yourself.'
        )
    with atomic_path(root) as building:
        building.mkdir()
        plans = plan_world(params)
        if plans:
            task = partial(write_clip, root=building, seed=params.seed)
            track_progress_rich(task, plans, nproc=workers, chunksize=4, description='Clips')
        _write_tables(plans, building)
        (building / STAMP).write_text(params.stamp(), encoding='utf-8')
        if root.exists():
            shutil.rmtree(root)
    return True
