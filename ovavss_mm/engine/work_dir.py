# SPDX-License-Identifier: Apache-2.0
"""One training at a time in a work directory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..utils.files import FolderLock

LOCK = '.lock'
# Where launchers put the number of a process among all.
_RANKS = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')


class WorkDirBusyError(ValueError):
    """Another training is running in the work directory."""


@contextmanager
def hold_work_dir(work_dir: str, launcher: str = 'none') -> Iterator[None]:
    """Within, no other training starts in a work directory; tests may.

    The first of several processes holds it for all. The system frees it when the process has ended, however it ends.

    Args:
        work_dir: is made if it is not there.
        launcher: of the processes, as of :func:`load_config`.

    Raises:
        WorkDirBusyError: another process holds it.
    """
    if int(os.environ.get(_RANKS.get(launcher, ''), 0)) != 0:
        yield
        return
    lock = FolderLock(Path(work_dir) / LOCK)
    if not lock.take():
        raise WorkDirBusyError(
            f'{lock.holder()} is training in {os.path.abspath(work_dir)}: wait for its end, end it, or choose '
            'another --work-dir'
        )
    if hasattr(os, 'register_at_fork'):
        # Loader processes would hold it for seconds after ours was killed.
        os.register_at_fork(after_in_child=lock.free)
    try:
        yield
    finally:
        lock.free()
