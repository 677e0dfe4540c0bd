# SPDX-License-Identifier: Apache-2.0
"""A tiny archive in the layout of AVSBench-semantic, with the oddities of the real one."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from ovavss_mm.datasets import voc_palette

NAMES = ('bird', 'cat', 'dog', 'guitar', 'horse', 'violin')
BASE = ('bird', 'dog', 'guitar', 'horse')
COLUMNS = ('vid', 'uid', 's_min', 's_sec', 'a_obj', 'split', 'label')
NUM_FRAMES = {'v1s': 5, 'v1m': 5, 'v2': 10}
SIZE = (24, 32)  # height, width
SAMPLE_RATE = 16000


@dataclass
class Clip:
    """A row of metadata.csv and what to write for it."""

    uid: str
    a_obj: str
    split: str
    subset: str
    first_frame: int = 0
    sound: bool = True
    size: tuple[int, int] = field(default=SIZE)

    @property
    def frames(self) -> range:
        """Numbers of the frames."""
        return range(self.first_frame, self.first_frame + NUM_FRAMES[self.subset])

    @property
    def labelled(self) -> range:
        """Numbers of the frames with a label map."""
        first_only = self.subset == 'v1s' and self.split == 'train'
        return self.frames[:1] if first_only else self.frames


CLIPS = (
    Clip('bird_0', 'bird', 'train', 'v1s'),
    Clip('dog_guitar', 'dog_guitar', 'train', 'v2'),
    Clip('horse_1', 'horse', 'train', 'v2', first_frame=1),
    Clip('cat_0', 'cat', 'train', 'v1s'),  # novel
    Clip('dog_cat', 'dog_cat', 'train', 'v2'),  # partly novel
    Clip('misspelt', 'h orse', 'train', 'v1s'),
    Clip('away', 'off-the-screen', 'train', 'v2'),
    Clip('many', 'dog_bird', 'train', 'v1m'),
    Clip('val_cat', 'cat', 'val', 'v1s'),
    Clip('val_away', 'off-the-screen', 'val', 'v2'),
    Clip('test_violin_dog', 'violin_dog', 'test', 'v2'),
    Clip('test_silent', 'bird', 'test', 'v1s', sound=False),
    Clip('test_horse', 'horse', 'test', 'v2'),
    Clip('test_many', 'dog_bird', 'test', 'v1m'),
)


def label_index(name: str) -> int:
    """Label of a name, 0 (background) for one that is not in the vocabulary."""
    return NAMES.index(name) + 1 if name in NAMES else 0


def label_map(clip: Clip, t: int) -> np.ndarray:
    """Labels uint8 (H, W) of the t-th frame: a rectangle a name, that moves with t."""
    labels = np.zeros(clip.size, np.uint8)
    for k, name in enumerate(clip.a_obj.split('_')):
        labels[4 + 8 * k : 10 + 8 * k, 2 + t : 12 + t] = label_index(name)
    return labels


def save_labels(path: Path, labels: np.ndarray) -> None:
    """Write labels (H, W) as a picture in the colours of their indices."""
    Image.fromarray(np.array(voc_palette(256), np.uint8)[labels]).save(path)


def write_metadata(root: Path, clips: tuple[Clip, ...]) -> None:
    """Write metadata.csv."""
    with open(root / 'metadata.csv', 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for c in clips:
            writer.writerow((c.uid, c.uid, 0, 0, c.a_obj, c.split, c.subset))


def write_clip(root: Path, clip: Clip) -> Path:
    """Write the folder of a clip; frames are grey where a label is, with noise elsewhere."""
    folder = root / clip.subset / clip.uid
    (folder / 'frames').mkdir(parents=True)
    (folder / 'labels_rgb').mkdir()
    rng = np.random.default_rng(sum(map(ord, clip.uid)))
    for t, i in enumerate(clip.frames):
        labels = label_map(clip, t)
        img = rng.integers(0, 60, (*clip.size, 3), dtype=np.uint8)
        img[labels > 0] = 200
        Image.fromarray(img).save(folder / 'frames' / f'{i}.jpg', quality=95)
        if i in clip.labelled:
            save_labels(folder / 'labels_rgb' / f'{i}.png', labels)
    if clip.sound:
        wave = rng.uniform(-0.5, 0.5, len(clip.frames) * SAMPLE_RATE)
        soundfile.write(folder / 'audio.wav', wave, SAMPLE_RATE)
    return folder


def write_archive(root: Path, clips: tuple[Clip, ...] = CLIPS) -> Path:
    """Write a whole archive into the folder ``root``, which is made; returns it."""
    root.mkdir(parents=True, exist_ok=True)
    (root / 'label2idx.json').write_text(json.dumps({name: i for i, name in enumerate(('background', *NAMES))}))
    (root / 'base_names.txt').write_text('\n'.join(BASE) + '\n')
    write_metadata(root, clips)
    for clip in clips:
        write_clip(root, clip)
    return root
