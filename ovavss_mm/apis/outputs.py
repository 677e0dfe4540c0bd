# SPDX-License-Identifier: Apache-2.0
"""Files that are written as the video is labelled, each whole or not at all under its name."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .overlay_video import OverlayVideo

__all__ = ['LabelPictures', 'Outputs', 'OverlayVideo', 'TimelineFile']


def partial_name(path: Path) -> Path:
    """The name beside ``path`` under which it is written: ``NAME.partial.SUFFIX``."""
    return path.with_name(f'{path.stem}.partial{path.suffix}')


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class Outputs:
    """Several outputs that get their names together, at the end, or are removed if anything fails.

    Use as a context manager: an output that was registered with :meth:`add` lies at its partial name until
    the block ends without an error.
    """

    def __init__(self) -> None:
        self._paths: list[tuple[Path, Path]] = []
        self._open: list[Any] = []

    def add(self, path: str | Path) -> Path:
        """Announce an output; its folder is made, and leftovers of an interrupted run are removed.

        Args:
            path: the final name.

        Returns:
            Where to write it.
        """
        path = Path(path)
        beside = partial_name(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(beside)
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
            if kind is None:
                for beside, path in self._paths:
                    if path.is_dir():  # a folder cannot be replaced as long as it is full
                        remove(path)
                    os.replace(beside, path)
        finally:
            for beside, _ in self._paths:
                remove(beside)

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
        self._file = path.open('w', encoding='utf-8')
        for key, value in header.items():
            self._file.write(
                f'{"," if key != next(iter(header)) else "{"}\n{self._pair(key, value)}'
            )
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
