# SPDX-License-Identifier: Apache-2.0
r"""Bring COCO-style video masks and their sounds into the layout of AVSBench-semantic.

Each JSON file is of the kind of YouTube-VIS: videos (id, file_names, width, height), categories
(id, name) and annotations (video_id, category_id, segmentations: for each frame an RLE, polygons or
null). A mask means that the object is seen and heard in that frame. The sound of a video is a file
below SOUNDS with the name of the folder of its frames, or of its id: for frames in train/vid1 and
id 7 train/vid1.wav, train-vid1.wav, vid1.wav or 7.wav, and so with flac, mp3, ogg. Without one it is
silent. docs/own_data.md goes on from here.

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
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path, PurePosixPath

import numpy as np
import soundfile
from PIL import Image
from pycocotools import mask as coco
from rich.console import Console
from rich.progress import track

SPLITS = ('train', 'val', 'test')
# What must stand under which key, and how to see that it does.
TEXT = ('text', lambda value: isinstance(value, str) and value.strip())
ID = ('a number, or text that a folder can be named with', lambda value: type(value) is int or is_folder(value))
PIXELS = ('a number of pixels', lambda value: type(value) is int and value > 0)
FILES = ('a list of file names', lambda value: isinstance(value, list) and value and all(map(TEXT[1], value)))
MASKS = ('a list with a mask or null for each frame', lambda value: isinstance(value, list))
KEYS = {
    'videos': dict(id=ID, file_names=FILES, width=PIXELS, height=PIXELS),
    'categories': dict(id=ID, name=TEXT),
    'annotations': dict(video_id=ID, category_id=ID, segmentations=MASKS),
}


def is_folder(value: object) -> bool:
    """Whether a value is text that can be the name of a folder."""
    return isinstance(value, str) and value.strip() not in ('', '.', '..') and set(value).isdisjoint('/\\')


@dataclass
class Video:
    """A video of a JSON file."""

    id: int | str
    files: list[str]  # a frame each, relative to --frames
    shape: tuple[int, int]  # height, width of its frames
    uid: str = ''  # name of its clip
    objects: list[tuple[str, str, list]] = field(default_factory=list)  # where in the file, name, a mask a frame

    @property
    def folders(self) -> list[str]:
        """Parts of the folder of its frames; none if they lie in --frames."""
        parts = PurePosixPath(self.files[0]).parent.parts
        return [part.strip() for part in parts if part.strip() not in ('', '/', '..')]

    @property
    def sound_names(self) -> list[str]:
        """What its sound may be called, the longest first: all parts of its folder or some in a row, and its id."""
        parts = self.folders
        runs = ((i, n) for n in range(len(parts), 0, -1) for i in range(len(parts) - n, -1, -1))
        return list(dict.fromkeys(['-'.join(parts[i : i + n]) for i, n in runs] + [str(self.id)]))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    for split in SPLITS:
        parser.add_argument(f'--{split}', metavar='JSON', help=f'annotations of split {split}')
    parser.add_argument('--frames', required=True, help='folder that file_names are relative to')
    parser.add_argument('--sounds', required=True, help='folder of the sound files')
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
        for option in ('frames', 'sounds'):
            if not os.path.isdir(getattr(args, option)):
                raise FileNotFoundError(f'--{option} must be a folder, got {getattr(args, option)}')
        with atomic_path(args.out) as building:
            clips, names, sounds = convert(args, building)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(f'{args.out}: {clips} clips, {names} names\n{sounds}')


def convert(args: argparse.Namespace, root: Path) -> tuple[int, int, str]:
    """Write an archive into the empty folder ``root``; returns its numbers of clips and names, and its sounds."""
    from ovavss_mm.datasets.avsbench_ov import Vocabulary, check_names_fit

    files = {split: read_videos(getattr(args, split)) for split in SPLITS if getattr(args, split)}
    names = sorted(set().union(*(names for names, _ in files.values())))
    vocabulary = Vocabulary(names, base=names)
    check_names_fit(vocabulary, 'the categories')
    videos = [video for _, videos in files.values() for video in videos]
    twice = [uid for uid, number in Counter(video.uid for video in videos).items() if number > 1]
    if twice:
        raise ValueError(f'two videos have the name {twice[0]}')
    sounds, said = find_sounds(args.sounds, videos)
    root.mkdir(parents=True)
    label2idx = {name: i for i, name in enumerate(vocabulary.classes)}
    (root / 'label2idx.json').write_text(json.dumps(label2idx, indent=2) + '\n')
    rows = []
    for split, (_, videos) in files.items():
        for video in track(videos, split, console=Console(stderr=True)):
            heard = write_clip(args, root / 'v2' / video.uid, video, label2idx)
            if video.uid in sounds:
                write_sound(sounds[video.uid], root / 'v2' / video.uid / 'audio.wav')
            rows.append((video.uid, heard, split, 'v2'))
    with open(root / 'metadata.csv', 'w', newline='', encoding='utf-8') as table:
        csv.writer(table).writerows([('uid', 'a_obj', 'split', 'label'), *rows])
    return len(rows), len(names), said


# ---------------------------------------------------------------------- JSON
def read_videos(path: str) -> tuple[set[str], list[Video]]:
    """The names and videos of a JSON file; ValueError with the place if it is malformed (masks are decoded later)."""
    from ovavss_mm.datasets.files import read_json

    file = read_json(path)
    entries = {part: list(checked_entries(path, file, part)) for part in KEYS}
    # "_" separates names in metadata.csv
    names = {entry['id']: entry['name'].strip().replace('_', '-') for _, entry in entries['categories']}
    videos = {}
    for _, entry in entries['videos']:
        files = [name.replace('\\', '/') for name in entry['file_names']]
        videos[entry['id']] = Video(entry['id'], files, (entry['height'], entry['width']))
    for where, note in entries['annotations']:
        for key, known in (('video_id', videos), ('category_id', names)):
            if note[key] not in known:
                raise ValueError(f'{where}: {key} {note[key]!r} is not in the file')
        video = videos[note['video_id']]
        if len(note['segmentations']) != len(video.files):
            found = len(note['segmentations'])
            raise ValueError(f'{where}: {found} segmentations, its video has {len(video.files)} file_names')
        video.objects.append((where, names[note['category_id']], note['segmentations']))
    folders = Counter('-'.join(video.folders) for video in videos.values())
    for video in videos.values():
        uid = '-'.join(video.folders)
        video.uid = uid if uid and folders[uid] == 1 else str(video.id)
    return set(names.values()), list(videos.values())


def checked_entries(path: str, file: object, part: str) -> Iterator[tuple[str, dict]]:
    """Entries of a list of a JSON file and where they are; ValueError if one lacks a key or has the id of another."""
    from ovavss_mm.utils.text import one_line

    entries = file.get(part) if isinstance(file, dict) else None
    if not isinstance(entries, list):
        found = ', '.join(map(repr, file)) if isinstance(file, dict) else f'a {type(file).__name__}'
        raise ValueError(f'{path}: no list {part!r} as in YouTube-VIS, but {one_line(found)}')
    seen = {}
    for i, entry in enumerate(entries):
        said = entry if isinstance(entry, dict) else {}
        ids = ', '.join(f'{key} {one_line(repr(said[key]), 40)}' for key in ('id', 'video_id') if key in said)
        where = f'{path}, {part}[{i}] ({ids or "no id"})'
        for key, (kind, fits) in KEYS[part].items():
            if not fits(said.get(key)):
                got = one_line(repr(said[key])) if key in said else f'no {key}'
                raise ValueError(f'{where}: {key} must be {kind}, got {got}')
        if seen.setdefault(repr(entry.get('id', where)), i) != i:
            raise ValueError(f'{where}: {part}[{seen[repr(entry["id"])]}] has the same id')
        yield where, entry


# ---------------------------------------------------------------------- sound
def find_sounds(folder: str, videos: Sequence[Video]) -> tuple[dict[str, Path], str]:
    """Sounds by the uid of their video, and how many there are in words."""
    from ovavss_mm.datasets.files import OTHER_SOUNDS, SOUNDS
    from ovavss_mm.utils.text import shorten

    files = sorted(glob('**/*', root_dir=folder, recursive=True), key=lambda name: not name.lower().endswith('.wav'))
    stems, ends = {}, {}  # of a sound: all parts of its path, and its last ones
    for name in (name for name in files if name.lower().endswith(SOUNDS)):
        parts = PurePosixPath(name).with_suffix('').parts
        if stems.setdefault('-'.join(parts), name) == name:  # of the same name, the wav file
            for i in range(len(parts)):
                ends.setdefault('-'.join(parts[i:]), []).append(name)
    owners = Counter(name for video in videos for name in video.sound_names)
    found, names = {}, {}
    for video in sorted(videos, key=lambda video: video.uid not in stems):
        # A name that stands for two videos is the name of neither, unless it is all of the folder of one.
        names[video.uid] = [name for name in video.sound_names if owners[name] == 1 or name == video.uid]
        for name in names[video.uid]:
            whole = ends.get(name, []) if name in (video.uid, str(video.id)) else []
            fitting = [stems[name]] if name in stems else whole
            if len(fitting) == 1 and fitting[0] not in found.values():
                found[video.uid] = fitting[0]
                break
    silent = [f'{uid} (no {", ".join(names[uid])})' for uid in names if uid not in found]
    unused = sorted(set(stems.values()) - set(found.values()))
    unread = [name for name in files if name.lower().endswith(OTHER_SOUNDS)]
    lines = [f'{len(found)} of {len(videos)} clips have sound']
    if silent:
        lines.append(f'no sound in {folder}: {len(silent)} clips, {shorten(silent, 3)} with {", ".join(SOUNDS)}')
    if unused:
        lines.append(f'sounds that belong to no video: {len(unused)} ({shorten(unused, 3)})')
    if unread:
        how = 'convert them: ffmpeg -i FILE -vn NAME.wav'
        lines.append(f'of a kind that is not read: {len(unread)} ({shorten(unread, 3)}); {how}')
    return {uid: Path(folder, name) for uid, name in found.items()}, '\n  '.join(lines)


def write_sound(source: Path, path: Path) -> None:
    """Copy a wav file, or convert another sound file to one."""
    from ovavss_mm.datasets.transforms.audio import read_wav

    if source.suffix.lower() == '.wav':
        shutil.copyfile(source, path)
    else:
        soundfile.write(path, *read_wav(str(source)), subtype='FLOAT')


# ---------------------------------------------------------------------- frames and masks
def write_clip(args: argparse.Namespace, folder: Path, video: Video, label2idx: dict) -> str:
    """Write frames and label maps of a video into a new folder; returns the names in it, joined by ``_``."""
    from ovavss_mm.datasets import voc_palette

    (folder / 'frames').mkdir(parents=True)
    (folder / 'labels_rgb').mkdir()
    palette = np.array(voc_palette(len(label2idx)), np.uint8)
    heard = set()
    for t, index in enumerate(range(0, len(video.files), args.step)):
        source = Path(args.frames, video.files[index])
        with Image.open(source) as frame:
            if frame.size != video.shape[::-1]:
                raise ValueError(f'{source} has {frame.size} pixels, not those of its video, {video.shape[::-1]}')
            if frame.format == 'JPEG':
                shutil.copyfile(source, folder / 'frames' / f'{t}.jpg')
            else:
                frame.convert('RGB').save(folder / 'frames' / f'{t}.jpg', quality=95)
        labels = np.zeros(video.shape, np.uint8)
        masks = [
            (name, decode(parts[index], video.shape, f'{where}, frame {index}'))
            for where, name, parts in video.objects
            if parts[index] is not None
        ]
        # Small objects last: what lies on a large one stays visible.
        for name, mask in sorted(masks, key=lambda item: -item[1].sum()):
            labels[mask] = label2idx[name]
            if mask.any():
                heard.add(name)
        Image.fromarray(palette[labels]).save(folder / 'labels_rgb' / f'{t}.png')
    # As AVSBench-semantic says it where nothing that is seen is heard.
    return '_'.join(sorted(heard)) or 'off-the-screen'


def decode(part: object, shape: tuple[int, int], where: str) -> np.ndarray:
    """A mask, bool (H, W), from RLE (compressed or not) or polygons; ValueError with ``where`` if it is neither."""
    from ovavss_mm.utils.text import one_line

    try:
        if isinstance(part, dict):
            return decode_runs(part, shape)
        if isinstance(part, list):
            return decode_polygons(part, shape)
        raise ValueError('a mask must be an RLE, a list of polygons or null')
    except ValueError as error:
        raise ValueError(f'{where}: {error}, got {one_line(repr(part))}') from error


def decode_polygons(polygons: list, shape: tuple[int, int]) -> np.ndarray:
    """A mask, bool (H, W), from polygons, each ``[x, y, x, y, ..]``, or from a single one."""
    if polygons and not any(isinstance(polygon, list) for polygon in polygons):
        polygons = [polygons]
    far = 2 * max(shape)  # they may reach a bit out of the picture; pycocotools takes memory for each step of an edge
    for polygon in polygons:
        if not isinstance(polygon, list) or not all(type(x) in (int, float) and -far <= x <= far for x in polygon):
            raise ValueError(f'a polygon must be a list of numbers x, y, x, y .. in pixels of {shape[1]} x {shape[0]}')
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f'a polygon must have x and y of 3 or more corners, not {len(polygon)} numbers')
        if max(polygon) <= 1 and any(x % 1 for x in polygon):
            raise ValueError('a polygon must be in pixels, not in parts of the picture')
    if not polygons:
        return np.zeros(shape, bool)
    return coco.decode(coco.merge(coco.frPyObjects(polygons, *shape))).astype(bool)


def decode_runs(rle: dict, shape: tuple[int, int]) -> np.ndarray:
    """A mask, bool (H, W), from an RLE; pycocotools would read beyond its memory where counts are wrong."""
    size, counts = rle.get('size'), rle.get('counts')
    if not isinstance(size, list) or not isinstance(counts, (list, str)):
        raise ValueError('an RLE must have size [height, width] and counts, a list or a text')
    if tuple(size) != shape:
        raise ValueError(f'a mask has {size[::-1]} pixels, its video {shape[::-1]}')
    runs = read_counts(counts) if isinstance(counts, str) else counts
    if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != shape[0] * shape[1]:
        raise ValueError(f'the counts of an RLE must be numbers from 0 up, of {shape[0] * shape[1]} pixels in all')
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape[::-1]).T


def read_counts(text: str) -> list[int]:
    """Run lengths from COCO's text.

    A letter has 5 bits of a number, low ones first, and says whether more follow; from the fourth on a number is the
    difference from the one two before.
    """
    runs, value, shift = [], 0, 0
    for bits in (ord(letter) - 48 for letter in text):
        if not 0 <= bits < 64:
            break
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)  # the sign
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    else:
        if not shift:
            return runs
    raise ValueError('the counts of an RLE are no text that COCO writes')


if __name__ == '__main__':
    main()
