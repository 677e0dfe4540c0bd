# SPDX-License-Identifier: Apache-2.0
"""Many videos: shared out to processes, left out where they are complete, and summed up at the end."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import av
from mmengine.dist import all_gather_object, broadcast_object_list, get_dist_info

from ...utils.files import FolderLock, write_atomic
from .listing import list_inputs, natural, output_names
from .media import open_media
from .sources import open_source

COLUMNS = ('video', 'output', 'state', 'duration', 'name', 'seconds', 'identities', 'error')


@dataclass
class Job:
    """A video to label.

    Args:
        item (Any): what :func:`.sources.open_source` opens.
        name (str): of its outputs, unlike that of any other one.
        seconds (float): about how long it lasts. Defaults to 0.
    """

    item: Any
    name: str
    seconds: float = 0.0

    @property
    def files(self) -> list[str]:
        """The files or folders that it is made of, the one with the pictures first; of arrays none."""
        parts = self.item if isinstance(self.item, dict) else dict(video=self.item)
        pictures = parts.get('video', parts.get('frames'))
        found = [part for part in (pictures, parts.get('sound')) if isinstance(part, (str, Path))]
        return [str(part) for part in found] if isinstance(pictures, (str, Path)) else []

    @property
    def video(self) -> str:
        """What messages call it."""
        return next(iter(self.files), self.name)


def list_jobs(inputs: Any, out_dir: str | None = None) -> list[Job]:
    """The jobs of a call's inputs, see :func:`.listing.list_inputs`; names do not depend on the order."""
    items = list_inputs(inputs, out_dir)
    return [Job(item, name) for item, name in zip(items, output_names(items), strict=True)]


# ------------------------------------------------------------------ shares of processes
def seconds_of(job: Job) -> float:
    """About how long a video lasts, as its file says; 0 where that cannot be told."""
    with suppress(OSError, ValueError, av.FFmpegError):
        if isinstance(job.item, (str, Path)) and os.path.isfile(job.item):
            with open_media(str(job.item)) as container:
                return (container.duration or 0) / av.time_base
        return open_source(job.item).duration or 0.0
    return 0.0


def share_out(seconds: Sequence[float], parts: int) -> list[list[int]]:
    """Share videos out so that all parts last about equally long: the longest first, each to the emptiest part.

    Returns:
        list[list[int]]: indices of the videos of each part, in their own order.
    """
    shares: list[list[int]] = [[] for _ in range(parts)]
    loads = [0.0] * parts
    for i in sorted(range(len(seconds)), key=lambda i: -seconds[i]):
        part = min(range(parts), key=lambda k: (loads[k], len(shares[k])))
        shares[part].append(i)
        loads[part] += seconds[i]
    return [sorted(share) for share in shares]


def share_jobs(
    inputs: Any, out_dir: str | None, is_complete: Callable[[Job], bool]
) -> tuple[list[Job], list[int], list[int]]:
    """List the inputs of a call, and share out to the processes of a process group those that are not complete.

    The first process looks at the files and tells the others, as files come and go meanwhile.

    Returns:
        tuple: all jobs; indices of those that are not complete; and of those that this process takes. The first one
        takes those that are complete, too.
    """
    rank, world_size = get_dist_info()
    told: list[Any] = [None]
    if rank == 0:
        jobs = list_jobs(inputs, out_dir)
        complete = [i for i, job in enumerate(jobs) if is_complete(job)]
        open_ones = [i for i in range(len(jobs)) if i not in set(complete)]
        for i in open_ones if len(jobs) > 1 else ():
            jobs[i].seconds = seconds_of(jobs[i])
        shares = share_out([jobs[i].seconds for i in open_ones], world_size)
        shares = [[open_ones[i] for i in share] for share in shares]
        told = [(jobs, open_ones, [complete + shares[0], *shares[1:]])]
    broadcast_object_list(told)
    jobs, open_ones, shares = told[0]
    return jobs, open_ones, shares[rank]


# ------------------------------------------------------------------ what is there already
def stamps(paths: Iterable[str]) -> list[list[Any]]:
    """Of each file, or folder of files, its absolute path, its bytes, and when it was changed last, in nanoseconds."""
    found = []
    for path in map(Path, paths):
        parts = [part.stat() for part in path.rglob('*')] if path.is_dir() else [path.stat()]
        changed = max((part.st_mtime_ns for part in parts), default=0)
        found.append([str(path.resolve()), sum(part.st_size for part in parts), changed])
    return found


def read_complete(head: Mapping[str, Any], files: Mapping[str, Path]) -> dict | None:
    """Read the prediction that an earlier call wrote of the same files, with the same names, model and settings.

    Args:
        head (Mapping[str, Any]): what its JSON file must say.
        files (Mapping[str, Path]): all files that the call would write, 'json' among them.

    Returns:
        dict: the prediction, without records of frames; None if there is none, or of something else.
    """
    try:
        prediction = json.loads(files['json'].read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    wanted = json.loads(json.dumps(head))  # tuples are lists there
    if not isinstance(prediction, dict) or any(prediction.get(key) != value for key, value in wanted.items()):
        return None
    if not all(path.exists() for path in files.values()):
        return None
    prediction.pop('frames', None)
    return prediction | dict(files={kind: str(path) for kind, path in files.items()})


@contextmanager
def claimed(out_dir: str, name: str) -> Iterator[bool]:
    """Hold the outputs of a name, so that other starts see that they are being written.

    Yields:
        bool: whether they are ours; False while another process holds them.
    """
    lock = FolderLock(Path(out_dir, '.labelling', name))
    ours = _take(lock)
    try:
        yield ours
    finally:
        if ours:
            lock.path.unlink(missing_ok=True)
            lock.free()
            with suppress(OSError):  # there are others in it
                lock.path.parent.rmdir()


def _take(lock: FolderLock, tries: int = 100) -> bool:
    """Take a lock whose file, and its folder, others may remove at any time; whether it is ours."""
    for left in reversed(range(tries)):
        try:
            if not lock.take():
                return False
            same = [os.path.samestat(os.fstat(number), lock.path.stat()) for number in lock.numbers()]
        except (FileNotFoundError, FileExistsError):
            same = [False]
            if not left:
                raise
        if all(same):
            return True
        lock.free()
    return False


# ------------------------------------------------------------------ summary
def summary_row(job: Job, state: str, prediction: Mapping[str, Any]) -> dict[str, Any]:
    """What the summary says of a video.

    Args:
        job (Job): the video.
        state (str): 'labelled', 'complete' (by an earlier call), 'busy' (another process is at it) or 'failed'.
        prediction (Mapping[str, Any]): what was found, or the ``error``.
    """
    row = dict(video=job.video, output=job.name, state=state)
    if 'names' not in prediction:
        return dict(prediction, **row)
    identities = Counter(found['name'] for found in prediction['objects'])
    names = {
        name: dict(seconds=heard['seconds'], identities=identities[name] or 1)
        for name, heard in prediction['names'].items()
    }
    return row | dict(
        duration=prediction['duration'], names=names, silent=prediction['silent']['seconds'], notes=prediction['notes']
    )


def write_summary(out_dir: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``summary.json``, an entry a video, and ``summary.csv``, a line a video and name, of all processes.

    Args:
        out_dir (str): where.
        rows (Sequence[Mapping[str, Any]]): of this process's videos; they are sorted by the names of their outputs.
    """
    gathered = all_gather_object(list(rows))
    if get_dist_info()[0] != 0:
        return
    listed = sorted(chain.from_iterable(gathered), key=lambda row: natural(row['output']))
    text = json.dumps(listed, indent=1, ensure_ascii=False) + '\n'
    write_atomic(Path(out_dir, 'summary.json'), text.encode(errors='backslashreplace'))
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, extrasaction='ignore', lineterminator='\n')
    table.writeheader()
    for row in listed:
        for name, heard in (row.get('names') or {'': {}}).items():
            table.writerow(dict(row, name=name, **heard))
    write_atomic(Path(out_dir, 'summary.csv'), text.getvalue().encode(errors='backslashreplace'))
