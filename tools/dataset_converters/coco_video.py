# SPDX-License-Identifier: Apache-2.0
r"""Bring COCO-style video masks and their sounds into the layout of AVSBench-semantic.

Each JSON file is of the kind of YouTube-VIS: videos (id, file_names, width, height), categories
(id, name) and annotations (video_id, category_id, segmentations: for each frame an RLE, polygons or
null). A mask means that the object is seen and heard in that frame. The sound of a video is
SOUNDS/<name>.wav, where name is the folder of its frames, or its id; without one it is silent.
docs/own_data.md goes on from here.

Example, videos of 6 frames a second, of which a clip takes one a second:
  python tools/dataset_converters/coco_video.py --train train.json --out data/own \
      --frames JPEGImages --sounds wav --step 6
"""

import argparse
import csv
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco
from rich.console import Console
from rich.progress import track

SPLITS = ('train', 'val', 'test')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    for split in SPLITS:
        parser.add_argument(f'--{split}', metavar='JSON', help=f'annotations of split {split}')
    parser.add_argument('--frames', required=True, help='folder that file_names are relative to')
    parser.add_argument('--sounds', required=True, help='folder of the wav files')
    parser.add_argument('--out', required=True, help='folder to make; must not be there yet')
    parser.add_argument('--step', type=int, default=1, help='every STEP-th frame is taken')
    args = parser.parse_args(argv)
    if args.step < 1 or not (args.train or args.val or args.test):
        parser.error('--step must be at least 1, and one of --train, --val, --test be given')
    return args


def main(argv: list[str] | None = None) -> None:
    """Convert; the process ends with 1 if something is wrong."""
    args = parse_args(argv)
    from ovavss_mm.compat import import_quietly

    import_quietly('ovavss_mm.datasets')
    from ovavss_mm.utils.files import atomic_path

    try:
        if os.path.exists(args.out):
            raise FileExistsError(f'{args.out} is there already: remove it or choose another --out')
        with atomic_path(args.out) as building:
            clips, names = convert(args, building)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    except LookupError as error:
        sys.exit(f'error: a JSON file lacks a key, id or mask: {error}')
    print(f'{args.out}: {clips} clips, {names} names')


def convert(args: argparse.Namespace, root: Path) -> tuple[int, int]:
    """Write an archive into the empty folder ``root``; returns its numbers of clips and names."""
    from ovavss_mm.datasets.avsbench_ov import Vocabulary, check_names_fit

    files = {s: json.loads(Path(getattr(args, s)).read_text()) for s in SPLITS if getattr(args, s)}
    names = sorted({name_of(c) for file in files.values() for c in file['categories']})
    vocabulary = Vocabulary(names, base=names)
    check_names_fit(vocabulary, 'the categories')
    label2idx = {name: i for i, name in enumerate(vocabulary.classes)}
    root.mkdir(parents=True)
    (root / 'label2idx.json').write_text(json.dumps(label2idx, indent=2) + '\n')
    rows = []
    for split, file in files.items():
        categories = {c['id']: name_of(c) for c in file['categories']}
        objects = {video['id']: [] for video in file['videos']}
        for note in file['annotations']:
            found = (categories[note['category_id']], note['segmentations'])
            objects[note['video_id']].append(found)
        for video in track(file['videos'], split, console=Console(stderr=True)):
            heard = write_clip(args, root, video, objects[video['id']], label2idx)
            rows.append((uid_of(video), heard, split, 'v2'))
    with open(root / 'metadata.csv', 'w', newline='', encoding='utf-8') as table:
        csv.writer(table).writerows([('uid', 'a_obj', 'split', 'label'), *rows])
    return len(rows), len(names)


def name_of(category: dict) -> str:
    """Name of a category; ``_`` separates names in metadata.csv, so it becomes ``-``."""
    return category['name'].replace('_', '-')


def uid_of(video: dict) -> str:
    """Folder of a video's clip: that of its frames, else its id."""
    return os.path.dirname(video['file_names'][0]).replace('/', '-') or str(video['id'])


def write_clip(args: argparse.Namespace, root: Path, video: dict, objects: list, label2idx: dict) -> str:
    """Write frames, label maps and sound of a video; returns the names in it, joined by ``_``."""
    from ovavss_mm.datasets import voc_palette

    folder = root / 'v2' / uid_of(video)
    if folder.exists():
        raise ValueError(f'two videos have the name {uid_of(video)}')
    (folder / 'frames').mkdir(parents=True)
    (folder / 'labels_rgb').mkdir()
    palette = np.array(voc_palette(len(label2idx)), np.uint8)
    heard = set()
    for t, index in enumerate(range(0, len(video['file_names']), args.step)):
        source = Path(args.frames, video['file_names'][index])
        with Image.open(source) as frame:
            if frame.size != (video['width'], video['height']):
                raise ValueError(f'{source} has {frame.size} pixels, not those of its video')
            if frame.format == 'JPEG':
                shutil.copyfile(source, folder / 'frames' / f'{t}.jpg')
            else:
                frame.convert('RGB').save(folder / 'frames' / f'{t}.jpg', quality=95)
        labels = np.zeros((video['height'], video['width']), np.uint8)
        masks = [(n, decode(parts[index], labels.shape)) for n, parts in objects if parts[index]]
        # Small objects last: what lies on a large one stays visible.
        for name, mask in sorted(masks, key=lambda item: -item[1].sum()):
            labels[mask] = label2idx[name]
            heard.add(name)
        Image.fromarray(palette[labels]).save(folder / 'labels_rgb' / f'{t}.png')
    sound = Path(args.sounds, f'{uid_of(video)}.wav')
    if sound.is_file():
        shutil.copyfile(sound, folder / 'audio.wav')
    # As AVSBench-semantic says it where nothing that is seen is heard.
    return '_'.join(sorted(heard)) or 'off-the-screen'


def decode(part: dict | list, shape: tuple[int, int]) -> np.ndarray:
    """A mask, bool (H, W), from RLE (compressed or not) or polygons."""
    if isinstance(part, list):
        part = coco.merge(coco.frPyObjects(part, *shape))
    elif isinstance(part['counts'], list):
        part = coco.frPyObjects(part, *shape)
    if tuple(part['size']) != shape:
        raise ValueError(f'a mask has {part["size"][::-1]} pixels, its video {shape[::-1]}')
    return coco.decode(part).astype(bool)


if __name__ == '__main__':
    main()
