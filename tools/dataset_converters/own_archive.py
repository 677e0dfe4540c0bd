# SPDX-License-Identifier: Apache-2.0
"""Writes a data set in the layout of docs/own_data.md; the converters beside it say what is in its clips."""

import argparse
import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

SPLITS = ('train', 'val', 'test')


class Mask(NamedTuple):
    """Where in a frame something is seen that sounds."""

    name: str
    pixels: np.ndarray  # bool (H, W)
    layer: int = 0  # what is higher covers what is lower; in one layer, the smaller covers the larger


def archive_name(name: str) -> str:
    """A name as an archive has it: ``_`` separates names in metadata.csv."""
    return name.strip().replace('_', '-')


# ---------------------------------------------------------------------- command line
def make_parser(doc: str, kind: str) -> argparse.ArgumentParser:
    """A parser with ``--out`` and, for each split, an option that takes files of a kind, such as 'JSON'."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for split in SPLITS:
        parser.add_argument(f'--{split}', nargs='+', default=[], metavar=kind, help=f'annotations of split {split}')
    parser.add_argument('--out', required=True, help='folder to make; must not be there yet')
    return parser


def run(args: argparse.Namespace, folders: Iterable[str], convert: Callable[[argparse.Namespace, Path], str]) -> None:
    """Make ``args.out`` by a function that writes into the folder it is given, and print what that returns.

    The process ends with 1 if something is wrong: ``args.out`` is there, one of the options that ``folders`` names is
    no folder, or the function raises OSError or ValueError.
    """
    from ovavss_mm.compat import import_quietly

    import_quietly('ovavss_mm.datasets')
    from ovavss_mm.utils.files import atomic_path

    try:
        if os.path.exists(args.out):
            raise FileExistsError(f'{args.out} is there already: remove it or choose another --out')
        for option in folders:
            if not os.path.isdir(getattr(args, option)):
                raise FileNotFoundError(f'--{option} must be a folder, got {getattr(args, option)}')
        with atomic_path(args.out) as building:
            said = convert(args, building)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(f'{args.out}: {said}')


# ---------------------------------------------------------------------- writing
class Archive:
    """A data set that is being written.

    Args:
        root (Path): its folder, which is made.
        names (Iterable[str]): all names, in the form of :func:`archive_name`.
        source (str): where they are from, for messages.

    Raises:
        ValueError: no names, too many, or one that no data set can have.
    """

    def __init__(self, root: Path, names: Iterable[str], source: str) -> None:
        from ovavss_mm.datasets import voc_palette
        from ovavss_mm.datasets.avsbench_ov import Vocabulary, check_names_fit

        vocabulary = Vocabulary(sorted(names), base=names)
        check_names_fit(vocabulary, source)
        self.root = root
        self.labels = {name: i for i, name in enumerate(vocabulary.classes)}
        self.palette = np.array(voc_palette(len(self.labels)), np.uint8)
        self.clips: list[Clip] = []
        root.mkdir(parents=True)
        (root / 'label2idx.json').write_text(json.dumps(self.labels, indent=2) + '\n')

    def add_clip(self, uid: str, split: str) -> 'Clip':
        """Begin a clip, in a folder of its own; FileExistsError if there is one of the name."""
        self.clips.append(Clip(self, uid, split))
        return self.clips[-1]

    def finish(self) -> str:
        """Write ``metadata.csv``; says how much there is."""
        rows = [(clip.uid, clip.names, clip.split, 'v2') for clip in self.clips]
        with open(self.root / 'metadata.csv', 'w', newline='', encoding='utf-8') as table:
            csv.writer(table).writerows([('uid', 'a_obj', 'split', 'label'), *rows])
        return f'{len(self.clips)} clips, {len(self.labels) - 1} names'


class Clip:
    """A clip that is being written; ``num_frames`` it has so far."""

    def __init__(self, archive: Archive, uid: str, split: str) -> None:
        self.archive, self.uid, self.split = archive, uid, split
        self.folder = archive.root / 'v2' / uid
        self.num_frames = 0
        self.heard: set[str] = set()
        (self.folder / 'frames').mkdir(parents=True)
        (self.folder / 'labels_rgb').mkdir()

    @property
    def audio_path(self) -> Path:
        """Where its sound belongs."""
        return self.folder / 'audio.wav'

    @property
    def names(self) -> str:
        """What sounds in it, joined by ``_``; as AVSBench-semantic says it where nothing that is seen is heard."""
        return '_'.join(sorted(self.heard)) or 'off-the-screen'

    def add_frame(self, frame: Image.Image, masks: Iterable[Mask]) -> None:
        """Add a frame, of which an opened JPEG file is copied, and its label map, from masks of its size."""
        name = str(self.num_frames)
        if frame.format == 'JPEG':
            shutil.copyfile(frame.filename, self.folder / 'frames' / f'{name}.jpg')
        else:
            frame.convert('RGB').save(self.folder / 'frames' / f'{name}.jpg', quality=95)
        labels = np.zeros(frame.size[::-1], np.uint8)
        # Small objects last: what lies on a large one stays visible.
        for mask in sorted(masks, key=lambda mask: (mask.layer, -mask.pixels.sum())):
            labels[mask.pixels] = self.archive.labels[mask.name]
            if mask.pixels.any():
                self.heard.add(mask.name)
        Image.fromarray(self.archive.palette[labels]).save(self.folder / 'labels_rgb' / f'{name}.png')
        self.num_frames += 1
