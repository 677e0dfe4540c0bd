# SPDX-License-Identifier: Apache-2.0
"""What the user sees while jobs run: a bar on a terminal, lines elsewhere."""

import time
from collections.abc import Sequence
from statistics import mean

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from .plan import Job
from .results import last_iteration
from .state import status_of

LOOK = 2.0  # seconds between looks at how far trainings are


class Reporter:
    """Tells what happens to jobs, and how long the rest will take.

    Args:
        slots: how many jobs run side by side.
        console: to write to; None: standard output.
    """

    def __init__(self, slots: int, console: Console | None = None) -> None:
        self.slots = slots
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._open: list[Job] = []
        self._total = 0
        self._seconds: dict[str, list[float]] = dict(train=[], test=[])
        self._far: dict[Job, tuple[int, float]] = {}
        self._looked = 0.0
        self._bar = Progress(
            TextColumn('rows: {task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('jobs, {task.fields[left]}'),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task('', left='', total=None)

    def __enter__(self) -> 'Reporter':
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def begin(self, jobs: Sequence[Job], done: Sequence[Job]) -> None:
        """Say what there is to do.

        Args:
            jobs: all of them.
            done: those that an earlier start has done.
        """
        self._total = len(jobs)
        self._open = [job for job in jobs if job not in done]
        for job in done:
            self._learn(job)
        found = f', {len(done)} of them done before' if done else ''
        self._write(f'{self._total} jobs{found}, {self.slots} side by side')

    def started(self, job: Job, holder: str) -> None:
        """A job was started.

        Args:
            job: that was started.
            holder: what still works on it since an earlier start, and is waited for; empty: nothing.
        """
        self._write(f'{job}: waits for {holder} of an earlier start' if holder else f'{job}: started')

    def done(self, job: Job) -> None:
        """A job is done."""
        self._open.remove(job)
        self._learn(job)
        seconds = status_of(job).results.get('seconds')
        took = '' if seconds is None else f' in {duration(seconds)}'
        self._write(f'{job}: done{took}; {self.left()}')

    def failed(self, job: Job, reason: str) -> None:
        """A job has failed."""
        self._open.remove(job)
        self._far.pop(job, None)
        log = f'\n  log: {job.log}' if job.log.is_file() else ''
        self._write(f'{job}: FAILED: {reason}{log}')

    def tick(self, running: Sequence[Job]) -> None:
        """Show how far running jobs are; cheap, may be called often."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        for job in running:
            far = last_iteration(job.folder) if job.training is None else None
            if far is not None:
                self._far[job] = far
        self._show(running)

    def left(self) -> str:
        """How long the rest will take, in words."""
        if not self._open:
            return 'none left'
        seconds = [self._left_of(job) for job in self._open]
        if None in seconds:
            return f'{len(self._open)} jobs left'
        return f'about {duration(sum(seconds) / min(self.slots, len(seconds)))} left'

    def _left_of(self, job: Job) -> float | None:
        """Seconds that a job still takes; None: nobody knows."""
        far = self._far.get(job)
        if far is not None and job.iterations:
            return max(0, job.iterations - far[0]) * far[1]
        known = self._seconds[job.kind]
        if not known and job.kind == 'train':
            known = [seconds * job.iterations for _, seconds in self._far.values() if job.iterations]
        return mean(known) if known else None

    def _learn(self, job: Job) -> None:
        """Remember how long a job took."""
        self._far.pop(job, None)
        seconds = status_of(job).results.get('seconds')
        if seconds is not None:
            self._seconds[job.kind].append(seconds)

    def _write(self, text: str) -> None:
        """Write a line, with how many jobs have ended."""
        ended = self._total - len(self._open)
        self.console.print(f'[{ended}/{self._total}] {text}', markup=False)
        self._show([])

    def _show(self, running: Sequence[Job]) -> None:
        """Renew the bar."""
        ended = self._total - len(self._open)
        words = '; '.join(self._words(job) for job in running)
        changes = dict(description=words) if running else {}
        self._bar.update(self._task, total=self._total, completed=ended, left=self.left(), **changes)

    def _words(self, job: Job) -> str:
        """A running job, and how far it is."""
        far = self._far.get(job)
        return f'{job} ({far[0]}/{job.iterations})' if far else str(job)


def duration(seconds: float) -> str:
    """A time span, short: ``'12 s'``, ``'3 min'``, ``'5 h 20 min'``."""
    if seconds < 100:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 100 else f'{minutes // 60} h {minutes % 60} min'
