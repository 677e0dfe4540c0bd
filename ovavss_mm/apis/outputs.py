# SPDX-License-Identifier: Apache-2.0
"""Files that are written as the video is labelled, each whole or not at all under its name."""

import glob
import hashlib
import itertools
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..datasets.files import is_plain
from .overlay_video import OverlayVideo

__all__ = ['LabelPictures', 'Outputs', 'OverlayVideo', 'TimelineFile', 'safe_name']


_numbers = itertools.count()  # of outputs of this process
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
MAX_NAME = 120  # bytes of a name; file systems take 255 with all that is added


def safe_name(text: str) -> str:
    """A name for files, of whatever text: it leads into no other folder and fits on one line.

    Args:
        text: such as the name of a video.

    Returns:
        The text itself if it can be; else without separators, control characters and dots at its start, and cut to
        ``MAX_NAME`` bytes with a digest of the whole at the end.
    """
    name = ''.join(c if is_plain(c) and c not in '/\\:' else '_' for c in text).strip()
    name = re.sub(r'^\.+', lambda dots: '_' * len(dots[0]), name) or '_'
    if len(name.encode()) > MAX_NAME:
        digest = hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]
        name = f'{name.encode()[: MAX_NAME - 9].decode(errors="ignore")}-{digest}'
    return name


def partial_name(path: Path) -> Path:
    """The name beside ``path`` under which it is written: no other call, process or computer has the same."""
    mark = f'{_HOST}-{os.getpid()}-{next(_numbers)}'
    return path.with_name(f'.{path.stem}.{mark}.partial{path.suffix}')


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what processes of this computer that were killed had begun to write for a path."""
    pattern = f'.{glob.escape(path.stem)}.{_HOST}-*.partial{glob.escape(path.suffix)}'
    for beside in path.parent.glob(pattern):
        mark = re.search(r'-(\d+)-\d+\.partial', beside.name)
        if mark and not _is_alive(int(mark[1])):
            remove(beside)


def _is_alive(process: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from giving names in a folder meanwhile, where the system has locks."""
    handle = None
    with suppress(ImportError, OSError):
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


class Outputs:
    """Several outputs that get their names together, at the end, or are removed if anything fails.

    Use as a context manager: an output that was registered with :meth:`add` lies at its partial name until
    the block ends without an error. The one that was added last gets its name last, and loses it first where
    there were older outputs: if it is there, the others belong to it.
    """

    def __init__(self) -> None:
        self._paths: list[tuple[Path, Path]] = []
        self._open: list[Any] = []

    def add(self, path: str | Path) -> Path:
        """Announce an output; its folder is made, and leftovers of a run that was killed are removed.

        Args:
            path: the final name.

        Returns:
            Where to write it.
        """
        path = Path(path)
        beside = partial_name(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        self._paths.append((beside, path))
        return beside

    def closing(self, writer: Any) -> Any:
        """Have ``writer.close()`` called before the names are given, or after an error."""
        self._open.append(writer)
        return writer

    def __enter__(self) -> 'Outputs':
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        try:
            self._close(failed=kind is not None)
            if kind is None and self._paths:
                with _alone(self._paths[-1][1].parent):
                    self._give_names()
        finally:
            for beside, _ in self._paths:
                remove(beside)

    def _give_names(self) -> None:
        """Put the outputs into the place of older ones."""
        if len(self._paths) > 1:
            remove(self._paths[-1][1])
        for beside, path in self._paths:
            if path.is_dir() and not path.is_symlink():  # a full folder cannot be replaced
                old = partial_name(path)
                os.rename(path, old)
                os.replace(beside, path)
                remove(old)
            else:
                os.replace(beside, path)

    def _close(self, failed: bool) -> None:
        """Close the writers; after an error, that one is told and no other."""
        while self._open:
            try:
                self._open.pop().close()
            except Exception:
                if not failed:
                    raise


class LabelPictures:
    """Writes label maps as PNG files named by their time in milliseconds.

    Up to 254 names a picture has 8 bits and a palette, beyond that 16 bits.

    Args:
        folder: where they go; it is made.
        palette: uint8 (N + 1, 3), the background first.
    """

    def __init__(self, folder: Path, palette: np.ndarray) -> None:
        folder.mkdir(parents=True)
        self.folder, self.palette = folder, palette

    def write(self, time: float, label_map: np.ndarray) -> None:
        """Write one.

        Args:
            time: in seconds.
            label_map: integer (H, W).
        """
        small = len(self.palette) < 256
        image = Image.fromarray(label_map.astype(np.uint8 if small else np.uint16))
        if small:
            image.putpalette(self.palette.tobytes())
        image.save(self.folder / f'{round(time * 1000):09d}.png')

    def close(self) -> None:
        """Nothing is open."""


class TimelineFile:
    """Writes the timeline as JSON, a line a frame, as it comes.

    Args:
        path: of the file.
        header: what is known before the first frame.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self._file = path.open('w', encoding='utf-8', errors='backslashreplace')
        for key, value in header.items():
            self._file.write(f'{"," if key != next(iter(header)) else "{"}\n{self._pair(key, value)}')
        self._file.write(',\n"frames": [')
        self._first = True

    @staticmethod
    def _pair(key: str, value: Any) -> str:
        """A key and its value in one line."""
        return f'{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}'

    def write(self, record: dict[str, Any]) -> None:
        """Write the record of a frame."""
        self._file.write(('\n' if self._first else ',\n') + json.dumps(record, ensure_ascii=False))
        self._first = False

    def finish(self, footer: dict[str, Any]) -> None:
        """Write what is known after the last frame."""
        self._file.write('\n]')
        for key, value in footer.items():
            self._file.write(f',\n{self._pair(key, value)}')
        self._file.write('\n}\n')

    def close(self) -> None:
        """Close the file."""
        self._file.close()
