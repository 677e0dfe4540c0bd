# SPDX-License-Identifier: Apache-2.0
"""Which files there are to label, by their names."""

import os.path as osp
import re
from collections.abc import Iterable
from glob import glob, has_magic
from pathlib import Path

PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
VIDEOS = ('.mp4', '.mov', '.mkv', '.webm', '.avi', '.m4v', '.mpg', '.mpeg', '.ts', '.flv', '.wmv')
SOUNDS = ('.wav', '.flac', '.mp3', '.m4a', '.aac', '.ogg', '.opus')


def natural(name: str) -> list:
    """Sorting key in which 10.jpg comes after 9.jpg."""
    return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', name)]


def list_files(folder: str, kinds: tuple[str, ...]) -> list[str]:
    """Paths of a folder's files of some kinds, in natural order, hidden ones left out."""
    names = [path.name for path in Path(folder).iterdir() if path.is_file()]
    names = [n for n in names if n.lower().endswith(kinds) and not n.startswith('.')]
    return [osp.join(folder, name) for name in sorted(names, key=natural)]


def list_inputs(inputs: object) -> list:
    """What to open, one after the other.

    Args:
        inputs: one input of :func:`.sources.open_source`, a glob pattern, a folder of videos, or a list or
            tuple of these.

    Raises:
        ValueError: there are none; or a pattern that nothing matches.
    """
    if not isinstance(inputs, (list, tuple)):
        inputs = [inputs]
    found = [item for entry in inputs for item in _expand(entry)]
    if not found:
        raise ValueError('there are no inputs')
    return found


def _expand(entry: object) -> Iterable:
    """The inputs that one entry stands for."""
    if not isinstance(entry, (str, Path)):
        return [entry]
    path = str(entry)
    if has_magic(path) and not osp.exists(path):
        found = sorted(glob(path, recursive=True), key=natural)
        if not found:
            raise ValueError(f'nothing matches {path}')
        return found
    if osp.isdir(path) and not list_files(path, PICTURES):
        return list_files(path, VIDEOS) or [path]
    return [path]
