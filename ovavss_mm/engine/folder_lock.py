# SPDX-License-Identifier: Apache-2.0
"""A lock on a folder that is never left behind."""

import errno
import os
import warnings
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # not on Windows: there, nobody is kept from starting twice
    fcntl = None

_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class FolderLock:
    """A lock that the system frees when all processes that hold it have ended, however they end.

    Args:
        path: of its file; the folder is made.

    A process that is started with its number in ``pass_fds`` holds it too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def take(self) -> bool:
        """Take it, if nobody holds it.

        Where the file system has no locks, a warning says so, and nobody is kept from taking it too.

        Returns:
            Whether it is ours now.

        Raises:
            OSError: its file cannot be written or locked.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = open(self.path, 'a+', encoding='utf-8')
        try:
            self._lock(file)
        except OSError as error:
            file.close()
            if error.errno in _HELD:
                return False
            raise
        self._file = file
        self.sign(os.getpid())
        return True

    def _lock(self, file: IO[str]) -> None:
        """Lock its file, as far as the system can."""
        if fcntl is None:
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                # the system's own message does not name the file
                raise OSError(error.errno, error.strerror, str(self.path)) from error
            warnings.warn(
                f'{self.path} cannot be locked, its file system has no locks ({error.strerror}): '
                f'see to it that nothing else is started in {self.path.parent}',
                stacklevel=3,
            )

    def sign(self, process: int) -> None:
        """Write into the file which process holds it."""
        self._file.truncate(0)
        self._file.write(f'{process}\n')
        self._file.flush()

    def holder(self) -> str:
        """The number of the process that holds it, in words."""
        try:
            return f'process {int(self.path.read_text(encoding="utf-8"))}'
        except (OSError, ValueError):
            return 'another process'

    def numbers(self) -> tuple[int, ...]:
        """For ``pass_fds`` of a process that is to hold it too."""
        return () if fcntl is None else (self._file.fileno(),)

    def free(self) -> None:
        """Let go of it; processes that share it still hold it."""
        if self._file is not None:
            self._file.close()
            self._file = None
