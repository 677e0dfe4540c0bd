# SPDX-License-Identifier: Apache-2.0
"""The file in which a run leaves its confusion matrix, and the order in which it is read.

``confusion.json`` stands beside a run's log. It is complete in itself: the counts, the class names
and which of them are base and novel.
"""

import json
import os
import os.path as osp
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..utils.files import write_atomic

FILE_NAME = 'confusion.json'
_KIND = 'ovavss_mm confusion matrix'


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix with its classes.

    Attributes:
        counts: int64 (C, C), entry (i, j) counts the pixels labelled i and predicted j.
        classes: C names, the background first.
        base_names: which of them are base.
        novel_names: which of them are novel.
    """

    counts: np.ndarray
    classes: tuple[str, ...]
    base_names: tuple[str, ...]
    novel_names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that counts and classes belong together."""
        size = len(self.classes)
        if self.counts.shape != (size, size) or self.counts.dtype.kind not in 'iu':
            raise ValueError(
                f'{size} classes need integer counts ({size}, {size}), got {self.counts.dtype} {self.counts.shape}'
            )
        if self.counts.size and self.counts.min() < 0:
            raise ValueError(f'a count is negative: {self.counts.min()}')
        if self.classes[:1] != ('background',) or len(set(self.classes)) != size:
            raise ValueError(f'classes must be distinct, "background" first, got {self.classes[:5]} ...')
        parts = (*self.base_names, *self.novel_names)
        strange = sorted({n for n in parts if n not in self.classes[1:] or parts.count(n) > 1})
        if strange:
            raise ValueError(f'base and novel names must part the classes: {strange[:5]}')

    def blocks(self) -> dict[str, list[int]]:
        """Give the classes in the order in which they are shown.

        Returns:
            Class indices by 'background', 'base', 'novel' and 'other' (neither of both), each
            block in alphabetical order, empty blocks left out.
        """
        index = {name: i for i, name in enumerate(self.classes)}
        listed = {*self.base_names, *self.novel_names}
        parts = {
            'background': self.classes[:1],
            'base': self.base_names,
            'novel': self.novel_names,
            'other': [name for name in self.classes[1:] if name not in listed],
        }
        return {part: [index[n] for n in sorted(names)] for part, names in parts.items() if names}

    def row_percent(self) -> np.ndarray:
        """Give what became of each class's labelled pixels.

        Returns:
            float64 (C, C), percent, each row adds up to 100; NaN in the rows of classes that have
            no labelled pixel.
        """
        totals = self.counts.sum(1, keepdims=True)
        out = np.full(self.counts.shape, np.nan)
        return np.divide(100.0 * self.counts, totals, out=out, where=totals > 0)


def write_confusion(confusion: Confusion, path: str) -> None:
    """Write a confusion matrix as JSON, atomically.

    Args:
        confusion: to write.
        path: of the file; its folder is made.
    """
    content = dict(
        kind=_KIND,
        classes=confusion.classes,
        base_names=confusion.base_names,
        novel_names=confusion.novel_names,
        counts=confusion.counts.tolist(),
    )
    write_atomic(path, json.dumps(content))


def read_confusion(path: str) -> Confusion:
    """Read what :func:`write_confusion` wrote.

    Args:
        path: of the file.

    Returns:
        The confusion matrix.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is of another kind, or damaged.
    """
    with open(path, 'rb') as file:
        content = file.read()
    try:
        return _parse(json.loads(content))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        reason = str(error)[:500]
        raise ValueError(f'{path} is no confusion matrix of a run: {reason}') from error


def _parse(content: Any) -> Confusion:
    """Turn the content of a file into a matrix."""
    if not isinstance(content, dict) or content.get('kind') != _KIND:
        keys = sorted(content)[:5] if isinstance(content, dict) else type(content).__name__
        raise ValueError(f'it is JSON of another kind ({keys})')
    names = [tuple(content[key]) for key in ('classes', 'base_names', 'novel_names')]
    return Confusion(np.array(content['counts']), *names)


def newest_confusion(path: str) -> str:
    """Find the file of a run.

    Args:
        path: the file itself, the folder of one run, or a work dir, whose newest run that has such
            a file counts.

    Returns:
        Path of the file.

    Raises:
        FileNotFoundError: if there is none.
    """
    if osp.isfile(path):
        return path
    if not osp.isdir(path):
        raise FileNotFoundError(f'there is no file or folder {path}')
    if osp.isfile(osp.join(path, FILE_NAME)):
        return osp.join(path, FILE_NAME)
    runs = [osp.join(entry.path, FILE_NAME) for entry in os.scandir(path) if entry.is_dir()]
    found = [file for file in runs if osp.isfile(file)]
    if not found:
        raise FileNotFoundError(
            f'{path} has no {FILE_NAME}, neither itself nor in the folder of a run. Every test and '
            'validation leaves one unless OVIoUMetric has save_confusion=False; make one: '
            f'mim test ovavss_mm CONFIG --checkpoint CHECKPOINT --work-dir {path}'
        )
    return max(found)  # folders are named after the time
