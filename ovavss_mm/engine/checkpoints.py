# SPDX-License-Identifier: Apache-2.0
"""Files that are complete whenever they are there, and the random numbers that go into a checkpoint."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.fileio import LocalBackend, register_backend

from ..utils.files import write_atomic

BACKEND = 'ovavss_atomic'  # name of AtomicFileBackend in mmengine's registry


@register_backend(BACKEND, force=True)
class AtomicFileBackend(LocalBackend):
    """mmengine's backend for local files; a file appears under its name when it is complete and on the disk."""

    _late: list[tuple[Path, int]] | None = None  # within removing_late: files to remove, with their inodes

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; after an OSError nothing has changed under that name."""
        write_atomic(filepath, obj, sync=True)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text, as :meth:`put` does."""
        self.put(obj.encode(encoding), filepath)

    def remove(self, filepath: str | Path) -> None:
        """Remove a file; within :meth:`removing_late`, at its end."""
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


def get_random_state() -> dict[str, Any]:
    """Get the state of the generators of python, numpy and torch (CPU, and the current GPU where one is used).

    Returns:
        dict: tensors on the CPU, numbers, strings and tuples, which ``torch.load(weights_only=True)`` reads.
    """
    kind, key, *rest = np.random.get_state()
    used = torch.cuda.is_available() and torch.cuda.is_initialized()
    return dict(
        python=random.getstate(),
        numpy=(kind, np.asarray(key).tolist(), *rest),
        torch=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state() if used else None,
    )


def set_random_state(state: dict[str, Any]) -> None:
    """Set the generators.

    Args:
        state (dict): from :func:`get_random_state`, its tensors on any device. Without a GPU, a GPU's part is left out.

    Raises:
        ValueError: it is something else.
    """
    try:
        random.setstate(state['python'])
        np.random.set_state(state['numpy'])
        torch.set_rng_state(state['torch'].cpu())
        if state['cuda'] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state['cuda'].cpu())
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise ValueError(f'this is no state of random number generators: {type(error).__name__}: {error}') from error
