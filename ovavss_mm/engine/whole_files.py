# SPDX-License-Identifier: Apache-2.0
"""Files that are whole whenever they are there, whatever ends the process or the machine."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

# The name, in mmengine's registry of storage backends, of the one below.
BACKEND = 'ovavss_whole'
_BESIDE = re.compile(r'\..+\.\d+\.part')


@register_backend(BACKEND, force=True)
class WholeFileBackend(LocalBackend):
    """mmengine's backend for local files; what it writes appears under its name when it is whole.

    Bytes go to a file beside, ``.<name>.<process>.part``, which is synchronised with the disk and then
    renamed. What stood under the name stays until then.
    """

    def __init__(self) -> None:
        super().__init__()
        self._late: list[tuple[Path, int]] | None = None

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes.

        Args:
            obj: what to write.
            filepath: where; its folder is made.

        Raises:
            OSError: it cannot be written; nothing has changed under that name.
        """
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f'.{path.name}.{os.getpid()}.part')
        try:
            with open(beside, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        _sync_folder(path.parent)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text, as :meth:`put` does.

        Args:
            obj: what to write.
            filepath: where.
            encoding: of the file.
        """
        self.put(obj.encode(encoding), filepath)

    def remove(self, filepath: str | Path) -> None:
        """Remove a file; within :meth:`removing_late`, at its end.

        Args:
            filepath: of the file.
        """
        if self._late is None:
            super().remove(filepath)
        else:
            self._late.append((Path(filepath), os.stat(filepath).st_ino))

    @contextmanager
    def removing_late(self) -> Iterator[None]:
        """Within, files to remove are collected; they go at the end, and stay if there is an error.

        One that has been written anew in between stays too.
        """
        if self._late is not None:  # the outermost one removes
            yield
            return
        self._late = []
        try:
            yield
            for path, number in self._late:
                with suppress(FileNotFoundError):
                    if path.stat().st_ino == number:
                        path.unlink()
        finally:
            self._late = None


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove what processes that were killed while they wrote have left in a folder.

    Args:
        folder: nobody else may be writing there.

    Returns:
        What was removed.
    """
    folder = Path(folder)
    found = [p for p in folder.iterdir() if _BESIDE.fullmatch(p.name)] if folder.is_dir() else []
    for path in found:
        path.unlink(missing_ok=True)
    return found


def _sync_folder(folder: Path) -> None:
    """Have the disk know of a new name; not all systems let one."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
