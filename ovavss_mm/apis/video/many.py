# SPDX-License-Identifier: Apache-2.0
"""Many videos: shared out to processes, left out where they are complete, and summed up at the end."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
        """The files that it is made of, the one with the pictures first; of arrays none."""
        parts = self.item if isinstance(self.item, dict) else dict(video=self.item)
        found = (parts.get(key) for key in ('video', 'frames', 'sound'))
        return [str(part) for part in found if isinstance(part, (str, Path))]

    @property
    def video(self) -> str:
        """What messages call it."""
        return next(iter(self.files), self.name)


def list_jobs(inputs: Any) -> list[Job]:
    """The jobs of a call's inputs, see :func:`.listing.list_inputs`; names do not depend on the order."""
    items = list_inputs(inputs)
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


def share_jobs(jobs: list[Job], wanted: list[int]) -> list[int]:
    """Those of some jobs that this process of a process group labels; sets the lengths of all that are wanted.

    The first process looks at the files and tells the others, as files come and go meanwhile.
    """
    rank, world_size = get_dist_info()
    told: list[Any] = [None]
    if rank == 0:
        seconds = [seconds_of(jobs[i]) for i in wanted] if len(jobs) > 1 else [0.0] * len(wanted)
        told = [(wanted, seconds, share_out(seconds, world_size))]
    broadcast_object_list(told)
    wanted, seconds, shares = told[0]
    for i, length in zip(wanted, seconds, strict=True):
        jobs[i].seconds = length
    return [wanted[i] for i in shares[rank]]


# ------------------------------------------------------------------ what is there already
def read_complete(job: Job, settings: Mapping[str, Any], files: Mapping[str, Path], weights: str | None) -> dict | None:
    """Read the prediction that an earlier call wrote with the same names, model and settings.

    Args:
        job (Job): the video.
        settings (Mapping[str, Any]): what the head of its JSON file must say.
        files (Mapping[str, Path]): all files that the call would write, 'json' among them.
        weights (str): of the model. Neither these nor the video may be newer than the JSON file.

    Returns:
        dict: the prediction, without records of frames; None if there is none, or of something else.
    """
    path = files['json']
    try:
        prediction = json.loads(path.read_text(encoding='utf-8'))
        made = path.stat().st_mtime
    except (OSError, ValueError):
        return None
    wanted = json.loads(json.dumps(settings))  # tuples are lists there
    if not isinstance(prediction, dict) or any(prediction.get(key) != value for key, value in wanted.items()):
        return None
    if prediction.get('video') not in (job.video, Path(job.video).name, Path(job.video).stem, job.name):
        return None
    origins = [*job.files, *([weights] if weights else [])]
    if any(os.path.getmtime(origin) > made for origin in origins if os.path.exists(origin)):
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
    ours = lock.take()
    try:
        yield ours
    finally:
        if ours:
            lock.path.unlink(missing_ok=True)
            lock.free()
            with suppress(OSError):  # there are others in it
                lock.path.parent.rmdir()


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
        name: dict(seconds=heard['seconds'], identities=identities[name]) for name, heard in prediction['names'].items()
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
    write_atomic(Path(out_dir, 'summary.json'), json.dumps(listed, indent=1, ensure_ascii=False) + '\n')
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, extrasaction='ignore', lineterminator='\n')
    table.writeheader()
    for row in listed:
        for name, heard in (row.get('names') or {'': {}}).items():
            table.writerow(dict(row, name=name, **heard))
    write_atomic(Path(out_dir, 'summary.csv'), text.getvalue())
