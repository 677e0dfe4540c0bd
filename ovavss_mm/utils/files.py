# SPDX-License-Identifier: Apache-2.0
"""Atomic writes, a folder lock, leftovers of killed processes and the pointer to the last checkpoint."""

import errno
import glob
import hashlib
import itertools
import os
import platform
import re
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no flock: nobody is kept from starting twice there
    fcntl = None

LAST_CHECKPOINT = 'last_checkpoint'  # mmengine's name of the pointer in a work dir

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
_PART = re.compile(r'\..*\.[0-9a-f]{6}-(\d+)-\d+\.part(\.[^.]*)?')
_numbers = itertools.count()
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


# ---------------------------------------------------------------------- atomic writes
def part_path(path: str | Path) -> Path:
    """Name beside ``path`` to write it under, of the same suffix; unique to this call, process and computer."""
    path = Path(path)
    return path.with_name(f'.{path.stem}.{_HOST}-{os.getpid()}-{next(_numbers)}.part{path.suffix}')


def milliseconds(time: float) -> str:
    """What a file of a time in seconds is called, without its ending: 1.5 s is 000001500."""
    return f'{round(time * 1000):09d}'


@contextmanager
def atomic_path(path: str | Path, sync: bool = False) -> Iterator[Path]:
    """Write a file, or a folder that is not there yet, so that nobody ever meets half of it.

    Args:
        path (str | Path): final name; its folder is made.
        sync (bool): whether to flush to the disk before the name is given, so that the file also survives a crash of
            the machine. Defaults to False.

    Yields:
        Path: where to write. It is moved to ``path`` at the end and removed after an error.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = part_path(path)
    try:
        yield beside
        if sync:
            _flush(beside, os.O_RDWR)
        os.replace(beside, path)
    finally:
        remove_path(beside)
    if sync:
        with suppress(OSError):  # not all systems flush new names
            _flush(path.parent, os.O_RDONLY)


def _flush(path: Path, mode: int) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    number = os.open(path, mode)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_atomic(path: str | Path, content: str | bytes, sync: bool = False) -> None:
    """Write text (UTF-8) or bytes with :func:`atomic_path`."""
    with atomic_path(path, sync) as beside, open(beside, 'wb') as file:
        file.write(content.encode() if isinstance(content, str) else content)


def remove_path(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: str | Path, of: str | Path | None = None) -> list[Path]:
    """Remove what processes that were killed while they wrote have left in a folder.

    Args:
        folder (str | Path): to look in.
        of (str | Path, optional): final name of the only file whose leftovers count; those of running processes and of
            other computers stay. None removes all leftovers: nobody else may be writing in the folder.

    Returns:
        list[Path]: what was removed.
    """
    pattern = '.*.part*'
    if of is not None:
        pattern = f'.{glob.escape(Path(of).stem)}.{_HOST}-*.part{glob.escape(Path(of).suffix)}'
    matches = [(path, _PART.fullmatch(path.name)) for path in Path(folder).glob(pattern)]
    removed = [path for path, match in matches if match and (of is None or not _is_alive(int(match[1])))]
    for path in removed:
        remove_path(path)
    return removed


def _is_alive(process: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


# ---------------------------------------------------------------------- lock
class FolderLock:
    """Lock that the system frees when all processes that hold it have ended, however they end.

    As a context manager it waits for its turn. A process that is started with :meth:`numbers` in ``pass_fds`` holds
    it too.

    Args:
        path (Path): of the lock file, whose folder is made; or a folder, which is locked itself and in which no file is
            left.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._number: int | None = None

    def take(self, wait: bool = False) -> bool:
        """Take the lock if nobody holds it.

        Where the file system has no locks, a warning says so, and the lock counts as taken.

        Args:
            wait (bool): whether to wait until it is free. Defaults to False.

        Returns:
            bool: whether it is ours now.

        Raises:
            OSError: the file cannot be written or locked.
        """
        folder = self.path.is_dir()
        if not folder:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(self.path, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(number)
                if error.errno in _HELD:
                    return False
                raise OSError(error.errno, error.strerror, str(self.path)) from error  # names the file
            warnings.warn(
                f'{self.path} cannot be locked, its file system has no locks ({error.strerror}): '
                f'make sure that nothing else is started in {self.path.parent}',
                stacklevel=2,
            )
        self._number = number
        self.sign(os.getpid())
        return True

    def sign(self, process: int) -> None:
        """Write the number of the process that holds it into the lock file."""
        if self.path.is_file():
            self.path.write_text(f'{process}\n', encoding='utf-8')

    def holder(self) -> str:
        """Name the process that holds it."""
        try:
            return f'process {int(self.path.read_text(encoding="utf-8"))}'
        except (OSError, ValueError):
            return 'another process'

    def numbers(self) -> tuple[int, ...]:
        """File descriptors for ``pass_fds`` of a process that is to hold it too."""
        return () if fcntl is None or self._number is None else (self._number,)

    def free(self) -> None:
        """Let go of it; processes that share it still hold it."""
        if self._number is not None:
            os.close(self._number)
            self._number = None

    def __enter__(self) -> 'FolderLock':
        self.take(wait=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.free()


# ---------------------------------------------------------------------- last checkpoint
def last_checkpoint(folder: str | Path) -> str | None:
    """Checkpoint that ``last_checkpoint`` of a work dir names.

    Returns:
        str: its path or address; of a file that is not there (the folder was moved), the one of that name in
        ``folder`` if there is one. None: the folder has no pointer.

    Raises:
        ValueError: the pointer is empty.
    """
    pointer = Path(folder) / LAST_CHECKPOINT
    if not pointer.is_file():
        return None
    name = pointer.read_text(encoding='utf-8').strip()
    if not name:
        raise ValueError(
            f'{pointer} is empty: write the path of the checkpoint to resume from into it, or remove it to start anew'
        )
    beside = Path(folder) / Path(name).name
    moved = '://' not in name and not Path(name).is_file() and beside.is_file()
    return str(beside) if moved else name


def mend_last_checkpoint(folder: str | Path) -> str | None:
    """Have ``last_checkpoint`` of a work dir, in which nothing may be training, name a checkpoint that is there.

    After a crash, or when a checkpoint was removed by hand, the newest complete one takes the place of the named one;
    without any, the pointer goes and the training starts again.

    Returns:
        str: path of the checkpoint; None: there is none.
    """
    pointer = Path(folder) / LAST_CHECKPOINT
    try:
        name = last_checkpoint(folder)
    except ValueError:
        name = ''
    if name is None or '://' in name:
        return name
    if not (name and Path(name).is_file()):
        found = [p for p in Path(folder).glob('[!.]*.pth') if zipfile.is_zipfile(p)]
        if not found:
            pointer.unlink()
            return None
        name = str(max(found, key=lambda path: path.stat().st_mtime_ns).resolve())
    write_atomic(pointer, name)
    return name
