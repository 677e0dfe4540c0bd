# SPDX-License-Identifier: Apache-2.0
"""Which jobs are done or failed, on disk, so that a kill at any moment loses nothing that was done."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ...utils.files import atomic_path
from .plan import Job

DONE, FAILED = 'done.json', 'failed.json'


class Status(NamedTuple):
    """How a job stands.

    Attributes:
        state: ``'done'``, ``'failed'`` or ``'open'``.
        results: of a job that is done.
        reason: why it failed.
        where: what to look at when it failed: a log, or the folder to remove.
    """

    state: str
    results: dict[str, Any] = {}
    reason: str = ''
    where: Path | None = None


def status_of(job: Job) -> Status:
    """How a job stands, from its folder.

    A test whose training failed has failed with it. What was done under another config counts as
    failed: it is neither used nor removed.
    """
    if job.fault:
        return Status('failed', reason=job.fault, where=job.config)
    done = _read(job.folder / DONE)
    if done is not None:
        if done.get('digest') == job.digest:
            return Status('done', done)
        reason = f'the config has changed since this was done; to do it again, remove {job.folder}'
        return Status('failed', reason=reason, where=job.folder)
    if job.training is not None:
        training = status_of(job.training)
        if training.state == 'failed':
            reason = f'its training failed: {training.reason}'
            return Status('failed', reason=reason, where=training.where)
    failed = _read(job.folder / FAILED)
    if failed is not None:
        return Status('failed', reason=str(failed.get('reason', '')), where=job.log)
    return Status('open')


def mark_done(job: Job, results: dict[str, Any]) -> None:
    """Write down what a job gave."""
    _write(job.folder / DONE, dict(results, seed=job.seed, digest=job.digest))


def mark_failed(job: Job, reason: str) -> None:
    """Write down that a job failed, for tables; the next start tries it again."""
    _write(job.folder / FAILED, dict(reason=reason))


def forget_failures(jobs: Iterable[Job]) -> None:
    """Let jobs that failed be tried again."""
    for job in jobs:
        (job.folder / FAILED).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    """Content of a file of ours, None if it is not there."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return None
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write a file, whole or not at all."""
    with atomic_path(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
