# SPDX-License-Identifier: Apache-2.0
"""Files that are written while the video is labelled and get their final names together, when all are complete."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...utils.files import FolderLock, milliseconds, part_path, remove_leftovers, remove_path
from ...utils.json_stream import JsonStream


class Outputs:
    """Several outputs that get their names together at the end, or are removed if anything fails.

    Use as a context manager: an output that was registered with :meth:`add` lies under a hidden name until the block
    ends without an error. The one that was added last gets its name last, and an older one of that name goes first: if
    it is there, the others belong to it.
    """

    def __init__(self) -> None:
        self._paths: list[tuple[Path, Path]] = []
        self._open: list[Any] = []

    def add(self, path: str | Path) -> Path:
        """Register an output by its final name; gives the path at which to write it.

        Its folder is made, and what killed processes left of it is removed.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, of=path)
        self._paths.append((part_path(path), path))
        return self._paths[-1][0]

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
                with FolderLock(self._paths[-1][1].parent):
                    self._give_names()
        finally:
            for beside, _ in self._paths:
                remove_path(beside)

    def _give_names(self) -> None:
        """Put the outputs into the place of older ones."""
        if len(self._paths) > 1:
            remove_path(self._paths[-1][1])
        for beside, path in self._paths:
            if path.is_dir() and not path.is_symlink():  # a full folder cannot be replaced
                old = part_path(path)
                os.rename(path, old)
                os.replace(beside, path)
                remove_path(old)
            else:
                os.replace(beside, path)

    def _close(self, failed: bool) -> None:
        """Close all writers; the first error is raised, unless there was one before."""
        first = None
        while self._open:
            try:
                self._open.pop().close()
            except Exception as error:
                first = first or error
        if first is not None and not failed:
            raise first


class LabelPictures:
    """Writes label maps as PNG files named by their time in milliseconds.

    Pictures have 8 bits and a palette, beyond 254 names 16 bits.

    Args:
        folder (Path): of the files; it is made.
        palette (np.ndarray): uint8 (N + 1, 3) RGB, the background first.
    """

    def __init__(self, folder: Path, palette: np.ndarray) -> None:
        folder.mkdir(parents=True)
        self.folder, self.palette = folder, palette

    def write(self, time: float, label_map: np.ndarray) -> None:
        """Write an integer label map (H, W) of a time in seconds."""
        small = len(self.palette) < 256
        image = Image.fromarray(label_map.astype(np.uint8 if small else np.uint16))
        if small:
            image.putpalette(self.palette.tobytes())
        image.save(self.folder / f'{milliseconds(time)}.png')


class TimelineFile(JsonStream):
    """Writes the timeline as JSON as it comes: a header, a line per frame, and a footer."""

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        super().__init__(path, header, 'frames')
