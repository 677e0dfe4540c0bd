# SPDX-License-Identifier: Apache-2.0
r"""Bring COCO-style video masks and their sounds into the layout of AVSBench-semantic.

Each JSON file is of the kind of YouTube-VIS: videos (id, file_names, width, height), categories
(id, name) and annotations (video_id, category_id, segmentations: for each frame an RLE, polygons or
null). A mask means that the object is seen and heard in that frame. The sound of a video is a file
below SOUNDS with the name of the folder of its frames, or of its id: for frames in train/vid1 and
id 7 train/vid1.wav, train-vid1.wav, vid1.wav or 7.wav, and so with flac, mp3, ogg, or a video such as
vid1.mp4, whose sound is taken. Without one it is silent. docs/own_data.md goes on from here.

Example, videos of 6 frames a second, of which a clip takes one a second:
  python tools/dataset_converters/coco_video.py --train train.json --out data/own \
      --frames JPEGImages --sounds wav --step 6
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from coco_masks import decode
from own_archive import SPLITS, Archive, Clip, Mask, archive_name, make_parser, run
from own_sounds import find_sounds, write_sound
from PIL import Image
from rich.console import Console
from rich.progress import track

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
    parser = make_parser(__doc__, 'JSON')
    parser.add_argument('--frames', required=True, help='folder that file_names are relative to')
    parser.add_argument('--sounds', required=True, help='folder of the sound files, or of videos with sound')
    parser.add_argument('--step', type=int, default=1, help='every STEP-th frame is taken')
    args = parser.parse_args(argv)
    if args.step < 1 or not (args.train or args.val or args.test):
        parser.error('--step must be at least 1, and one of --train, --val, --test be given')
    return args


def main(argv: list[str] | None = None) -> None:
    """Convert; the process ends with 1 if something is wrong."""
    run(parse_args(argv), ('frames', 'sounds'), convert)


def convert(args: argparse.Namespace, root: Path) -> str:
    """Write an archive into the new folder ``root``; says what is in it."""
    files = {split: [read_videos(path) for path in getattr(args, split)] for split in SPLITS}
    names = set().union(*(names for parts in files.values() for names, _ in parts))
    videos = [(split, video) for split, parts in files.items() for _, found in parts for video in found]
    twice = [uid for uid, number in Counter(video.uid for _, video in videos).items() if number > 1]
    if twice:
        raise ValueError(f'two videos have the name {twice[0]}')
    sounds, said = find_sounds(args.sounds, [video for _, video in videos])
    archive = Archive(root, names, 'the categories')
    for split, video in track(videos, 'clips', console=Console(stderr=True)):
        clip = archive.add_clip(video.uid, split)
        for index in range(0, len(video.files), args.step):
            add_frame(clip, video, index, Path(args.frames, video.files[index]))
        if video.uid in sounds:
            write_sound(sounds[video.uid], clip.audio_path, clip.num_frames)
    return f'{archive.finish()}\n{said}'


def add_frame(clip: Clip, video: Video, index: int, source: Path) -> None:
    """Add a frame of a video with its masks to a clip."""
    masks = [
        Mask(name, decode(parts[index], video.shape, f'{where}, frame {index}'))
        for where, name, parts in video.objects
        if parts[index] is not None
    ]
    with Image.open(source) as frame:
        if frame.size != video.shape[::-1]:
            raise ValueError(f'{source} has {frame.size} pixels, not those of its video, {video.shape[::-1]}')
        clip.add_frame(frame, masks)


# ---------------------------------------------------------------------- JSON
def read_videos(path: str) -> tuple[set[str], list[Video]]:
    """The names and videos of a JSON file; ValueError with the place if it is malformed (masks are decoded later)."""
    from ovavss_mm.datasets.files import read_json

    file = read_json(path)
    entries = {part: list(checked_entries(path, file, part)) for part in KEYS}
    names = {entry['id']: archive_name(entry['name']) for _, entry in entries['categories']}
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


if __name__ == '__main__':
    main()
