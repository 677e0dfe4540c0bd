# SPDX-License-Identifier: Apache-2.0
"""A file backend of mmengine whose files are complete whenever they are there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from ..utils.files import write_atomic

# The name of the backend below in mmengine's registry.
BACKEND = 'ovavss_atomic'


@register_backend(BACKEND, force=True)
class AtomicFileBackend(LocalBackend):
    """mmengine's backend for local files; a file appears under its name when it is complete and on the disk."""

    def __init__(self) -> None:
        super().__init__()
        self._late: list[tuple[Path, int]] | None = None

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes.

        Args:
            obj (bytes): what to write.
            filepath (str | Path): where; its folder is made.

        Raises:
            OSError: it cannot be written; nothing has changed under that name.
        """
        write_atomic(filepath, obj, sync=True)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text, as :meth:`put` does.

        Args:
            obj (str): what to write.
            filepath (str | Path): where.
            encoding (str): of the file. Defaults to 'utf-8'.
        """
        self.put(obj.encode(encoding), filepath)

    def remove(self, filepath: str | Path) -> None:
        """Remove a file; within :meth:`removing_late`, at its end.

        Args:
            filepath (str | Path): of the file.
        """
        if self._late is None:
            super().remove(filepath)
        else:
            self._late.append((Path(filepath), os.stat(filepath).st_ino))

    @contextmanager
    def removing_late(self) -> Iterator[None]:
        """Within, files that are removed go at the end, and stay if there is an error or they were written anew."""
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
