# SPDX-License-Identifier: Apache-2.0
"""What a training or a test left in its folder."""

import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmengine.runner import find_latest_checkpoint

FIGURES = dict(
    base='base_mIoU',
    novel='novel_mIoU',
    harmonic='harmonic_mIoU',
    mIoU='mIoU',
    silent_pixel_fpr='silent_pixel_fpr',
    silent_frame_fpr='silent_frame_fpr',
)
POINTER = 'last_checkpoint'
_TAIL = 2**14  # bytes at the end of a file in which the last entry is
_ERROR = re.compile(r'error: |[\w.]*(Error|Exception|Interrupt)\b')
_OF_MIM = 'subprocess.CalledProcessError'  # says no more than that a command failed


def results_of_training(folder: Path, iterations: int | None) -> dict[str, Any]:
    """What is kept of a training that has ended well.

    Args:
        folder: its work dir.
        iterations: how many it had; None: as many as it tells of.

    Returns:
        ``checkpoint``, relative to the folder, ``iterations``, and ``seconds``: the mean time of an
        iteration times their number, over the whole training however often it was interrupted; None if
        it was too short to tell.

    Raises:
        FileNotFoundError: there is no checkpoint.
    """
    latest = find_latest_checkpoint(str(folder))
    if not latest or not Path(latest).is_file():
        raise FileNotFoundError(f'the training left no checkpoint in {folder}')
    times = iteration_times(folder)
    iterations = iterations or max(times, default=0)
    seconds = round(iterations * sum(times.values()) / len(times), 1) if times else None
    return dict(checkpoint=Path(latest).name, iterations=iterations, seconds=seconds)


def results_of_test(folder: Path) -> dict[str, float]:
    """Figures of the newest test in a work dir, in percent, by name of :data:`FIGURES`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file of the newest is no result of a test.
    """
    files = [path for path in folder.glob('*/*.json') if path.stem == path.parent.name]
    if not files:
        raise FileNotFoundError(f'the test left no figures in {folder}')
    path = max(files)  # folders are named after the time
    try:
        figures = json.loads(path.read_text(encoding='utf-8'))
        return {
            name: float(figures[key])
            for name, key in FIGURES.items()
            if key in figures or not name.startswith('silent_')
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} holds no figures of a test ({error!r})') from error


def iteration_times(folder: Path) -> dict[int, float]:
    """Seconds that iterations took, by number, as far as a training wrote them down."""
    times = {}
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
        for entry in _parsed(lines):
            if 'iter' in entry and 'time' in entry:
                times[int(entry['iter'])] = float(entry['time'])
    return times


def last_iteration(folder: Path) -> tuple[int, float] | None:
    """Number of the last iteration that a training wrote down, and its seconds; None: none yet."""
    files = sorted(folder.glob('*/vis_data/scalars.json'))
    if not files:
        return None
    with open(files[-1], 'rb') as file:
        file.seek(max(0, file.seek(0, 2) - _TAIL))
        lines = file.read().decode('utf-8', 'replace').splitlines()
    entries = [entry for entry in _parsed(lines) if 'iter' in entry and 'time' in entry]
    return (int(entries[-1]['iter']), float(entries[-1]['time'])) if entries else None


def mend_pointer(folder: Path) -> None:
    """See that a killed training goes on from a checkpoint that is whole, if it left one.

    The training keeps the name of its last checkpoint in a file. After a kill at a bad moment, or when the
    folder was moved, the name can be that of a file that is not there: then the newest whole one takes its
    place, and without any the training starts again.

    Args:
        folder: work dir of the training.
    """
    pointer = folder / POINTER
    if not pointer.is_file():
        return
    name = pointer.read_text(encoding='utf-8').strip()
    if name and Path(name).is_file():
        return
    whole = [path for path in folder.glob('*.pth') if zipfile.is_zipfile(path)]
    if whole:
        newest = max(whole, key=lambda path: path.stat().st_mtime_ns)
        pointer.write_text(str(newest.resolve()), encoding='utf-8')
    else:
        pointer.unlink()


def error_in(log: Path, start: int = 0) -> str:
    """The line of a log that most likely says why a job failed.

    Args:
        log: the file.
        start: where the last attempt begins, in bytes.

    Returns:
        The last line that reads like an error, else the last line; empty for an empty log.
    """
    with open(log, 'rb') as file:
        file.seek(start)
        lines = file.read().decode('utf-8', 'replace').splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    errors = [line for line in lines if _ERROR.match(line) and not line.startswith(_OF_MIM)]
    return (errors or lines or [''])[-1]


def _parsed(lines: Iterable[str]) -> Iterator[dict]:
    """Content of each line; one that a kill cut off is left out."""
    for line in lines:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict):
            yield entry
