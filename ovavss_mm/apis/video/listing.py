# SPDX-License-Identifier: Apache-2.0
"""Which inputs there are, and what their outputs are called."""

import hashlib
import os
import os.path as osp
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from ...datasets.files import is_plain
from .media import has_pictures

PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
SOUNDS = ('.wav', '.flac', '.mp3', '.m4a', '.aac', '.ogg', '.oga', '.opus', '.aif', '.aiff', '.wma', '.ac3', '.amr')
# Endings of videos; files of others are looked into.
VIDEOS = (
    *('.mp4', '.mov', '.mkv', '.webm', '.avi', '.m4v', '.mpg', '.mpeg', '.ts', '.flv', '.wmv', '.gif'),
    *('.mts', '.m2ts', '.m2t', '.ogv', '.vob', '.3gp', '.3g2', '.f4v', '.asf', '.mxf', '.dv', '.mod', '.rm'),
)
MAX_NAME = 120  # bytes of a name; file systems take 255 with all that is added


def natural(name: str) -> list:
    """Sorting key in which 10.jpg comes after 9.jpg."""
    return [int(part) if part.isdecimal() else part for part in re.split(r'(\d+)', name)]


def list_files(folder: str, kinds: tuple[str, ...]) -> list[str]:
    """Paths of a folder's files with these suffixes in natural order, hidden ones left out."""
    names = [path.name for path in Path(folder).iterdir() if path.is_file()]
    names = [n for n in names if n.lower().endswith(kinds) and not n.startswith('.')]
    return [osp.join(folder, name) for name in sorted(names, key=natural)]


def list_inputs(inputs: object, out_dir: str | None = None) -> list:
    """List inputs of :func:`.sources.open_source`: of one, a glob pattern, a folder of videos, or a list of these.

    Of a folder with videos and photos, as of a camera, the videos are taken. Where neither lies in it, the videos in
    the folders below it are, but for those in ``out_dir``, which hold results.

    Raises:
        ValueError: no inputs, or a pattern that nothing matches.
    """
    if not isinstance(inputs, (list, tuple)):
        inputs = [inputs]
    found = [item for entry in inputs for item in _expand(entry, out_dir)]
    if not found:
        raise ValueError('there are no inputs')
    return found


def _expand(entry: object, out_dir: str | None) -> Iterable:
    """The inputs that one entry stands for."""
    if not isinstance(entry, (str, Path)):
        return [entry]
    path = str(entry)
    if has_magic(path) and not osp.exists(path):
        found = sorted(glob(path, recursive=True), key=natural)
        if not found:
            raise ValueError(f'nothing matches {path}')
        return found
    return _expand_folder(path, out_dir) if osp.isdir(path) else [path]


def _expand_folder(folder: str, out_dir: str | None) -> list[str]:
    """The videos in a folder; the folder itself if it is one of pictures."""
    pictures = list_files(folder, PICTURES)
    if videos := _list_videos(folder):
        if pictures:
            counts = f'videos are taken ({len(videos)}), the pictures beside them ({len(pictures)}) are left out'
            warnings.warn(f'{folder}: {counts}', stacklevel=4)
        return videos
    if pictures or osp.isdir(osp.join(folder, 'frames')):
        return [folder]
    below = sorted((root for root, _, _ in os.walk(folder)), key=natural)
    results = None if out_dir is None else Path(out_dir).resolve()
    below = [path for path in below if results not in (Path(path).resolve(), *Path(path).resolve().parents)]
    return [video for path in below for video in _list_videos(path)] or [folder]


def _list_videos(folder: str) -> list[str]:
    """The videos that lie in a folder, in natural order."""
    others = (*PICTURES, *SOUNDS)
    files = [path for path in list_files(folder, ('',)) if not path.lower().endswith(others)]
    return [path for path in files if path.lower().endswith(VIDEOS) or has_pictures(path)]


# ------------------------------------------------------------------ names of outputs
def output_names(items: list) -> list[str]:
    """Names of the inputs' outputs, which do not depend on the order of different inputs.

    No two are the same, not even where upper and lower case do not matter. None ends in ``.json``: the folder of its
    label maps would have the name of another one's timeline.
    """
    stems = [re.sub(r'\.(json)$', r'_\1', safe_name(_stem(item)), flags=re.I) for item in items]
    counts = Counter(stem.casefold() for stem in stems)
    out: list[str] = []
    taken: set[str] = set()
    last: Counter = Counter()  # number that a name was given last
    for item, name in zip(items, stems, strict=True):
        if counts[name.casefold()] > 1 and isinstance(item, (str, Path)):  # two files of one name
            name = safe_name(f'{Path(item).resolve().parent.name}_{name}')
        unique = name
        while unique.casefold() in taken:
            last[name] += 1
            unique = f'{name}_{last[name] + 1}'
        taken.add(unique.casefold())
        out.append(unique)
    return out


def safe_name(text: str) -> str:
    """Make a file name of any text, without separators, control characters and leading dots.

    One of more than ``MAX_NAME`` bytes is cut, and ends in a digest of the whole.
    """
    name = ''.join(c if is_plain(c) and c not in '/\\:' else '_' for c in text).strip()
    name = re.sub(r'^\.+', lambda dots: '_' * len(dots[0]), name) or '_'
    if len(name.encode()) > MAX_NAME:
        digest = hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]
        name = f'{name.encode()[: MAX_NAME - 9].decode(errors="ignore")}-{digest}'
    return name


def _stem(item: Any) -> str:
    """The name of an input."""
    if isinstance(item, dict):
        path = item.get('video', item.get('frames'))
        if item.get('name') is None and isinstance(path, (str, Path)):
            return _stem(path)
        return str(item.get('name') or 'frames')
    if isinstance(item, (str, Path)):
        path = Path(item).resolve()
        return path.name if osp.isdir(path) else path.stem
    return getattr(item, 'name', 'frames')  # a source, or an array
