# SPDX-License-Identifier: Apache-2.0
"""Runs jobs, some side by side, and notes what became of each."""

import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ...utils.files import FolderLock
from .launcher import Launcher
from .plan import Job
from .progress import Reporter
from .results import error_in, mend_pointer, results_of_test, results_of_training
from .state import forget_failures, mark_done, mark_failed, status_of

POLL = 0.2  # seconds between looks at what runs
PATIENCE = 15.0  # seconds that a process has to stop
RUNNING = '.running'


class Attempt:
    """A job that is run once.

    Args:
        job: to run.
        slot: its place among those that run side by side.
        launcher: knows its command.
    """

    def __init__(self, job: Job, slot: int, launcher: Launcher) -> None:
        self.job, self.slot, self._launcher = job, slot, launcher
        self.lock = FolderLock(job.folder / RUNNING)
        self._process: subprocess.Popen | None = None
        self._log: IO[bytes] | None = None
        self._log_start = 0
        self.began = time.monotonic()

    def start(self) -> bool:
        """Start it, unless a process of an earlier, killed start still works on it.

        Returns:
            Whether it runs now.
        """
        if not self.lock.take():
            return False
        self._log = open(self.job.log, 'ab')
        self._log_start = self._log.tell()
        if self.job.training is None:
            mend_pointer(self.job.folder)
        command = self._launcher.command(self.job, checkpoint_of(self.job.training))
        self._log.write(f'==> {shlex.join(command)}\n'.encode())
        self._log.flush()
        self.began = time.monotonic()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=self._launcher.environment(self.slot),
            pass_fds=self.lock.numbers(),  # held as long as the process lives, even without us
        )
        self.lock.sign(self._process.pid)
        return True

    def ended(self) -> bool:
        """Look whether it has ended; one that had to wait is started when it can be."""
        if self._process is None:
            self.start()
            return False
        return self._process.poll() is not None

    def close(self) -> str:
        """Note what became of it.

        Returns:
            Why it failed; empty if it did not.
        """
        seconds = time.monotonic() - self.began
        self._release()
        reason = self._reason()
        if not reason:
            try:
                results = self._results(seconds)
            except (FileNotFoundError, ValueError) as error:
                reason = str(error)
        if reason:
            mark_failed(self.job, reason)
        else:
            mark_done(self.job, results)
        return reason

    def interrupt(self) -> None:
        """Ask it to stop. mim stops what it started on this signal alone."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def abandon(self, deadline: float) -> None:
        """Wait until it has stopped, and end it if it does not.

        Args:
            deadline: of the patience, as :func:`time.monotonic` counts.
        """
        if self._process is not None:
            try:
                self._process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._release()

    def _results(self, seconds: float) -> dict:
        """What it left."""
        if self.job.training is None:
            return results_of_training(self.job.folder, self.job.iterations)
        return dict(figures=results_of_test(self.job.folder), seconds=round(seconds, 1))

    def _reason(self) -> str:
        """Why the process failed, empty if it did not."""
        code = self._process.returncode
        if not code:
            return ''
        line = error_in(self.job.log, self._log_start)
        status = f'signal {-code}' if code < 0 else f'exit status {code}'
        return f'{line} ({status})' if line else status

    def _release(self) -> None:
        """Close what is open."""
        if self._log is not None:
            self._log.close()
        self.lock.free()


class Scheduler:
    """Runs the jobs of a plan.

    A test waits for its training; where that fails, it fails too. All others go on.

    Args:
        jobs: in the order in which they should run.
        launcher: knows their commands and how many run side by side.
        reporter: is told what happens.
        changed: called with each job that has ended, when its state is on disk.
    """

    def __init__(
        self, jobs: Sequence[Job], launcher: Launcher, reporter: Reporter, changed: Callable[[Job], None]
    ) -> None:
        self.jobs, self.launcher, self.reporter, self.changed = jobs, launcher, reporter, changed
        self.running: list[Attempt] = []
        self.failed: list[Job] = []
        self.signal: int | None = None
        self._open: list[Job] = []

    def run(self) -> int:
        """Run all that is not done.

        Returns:
            0: all are done; 1: some failed; 128 and the number of the signal that stopped it.
        """
        forget_failures(self.jobs)
        self._open = [job for job in self.jobs if status_of(job).state != 'done']
        self.reporter.begin(self.jobs, [job for job in self.jobs if job not in self._open])
        with self._signals(), self.reporter:
            try:
                while (self._open or self.running) and self.signal is None:
                    self._step()
            finally:
                self._stop()
        if self.signal is not None:
            return 128 + self.signal
        return 1 if self.failed else 0

    def _step(self) -> None:
        """Look once at all that goes on."""
        self._fill()
        self._look()
        self.reporter.tick([attempt.job for attempt in self.running])
        if self.running:
            time.sleep(POLL)

    def _fill(self) -> None:
        """Start jobs where there is room."""
        for job in list(self._open):
            status = status_of(job)
            if status.state == 'failed':
                self._open.remove(job)
                self._fail(job, status.reason)
            elif len(self.running) < self.launcher.jobs and self._is_ready(job):
                self._open.remove(job)
                self._start(job)

    def _is_ready(self, job: Job) -> bool:
        """Whether its training, if it has one, is done."""
        return job.training is None or status_of(job.training).state == 'done'

    def _start(self, job: Job) -> None:
        """Start a job in a free place."""
        checkpoint = checkpoint_of(job.training)
        if checkpoint is not None and not checkpoint.is_file():
            folder = job.training.folder
            mark_failed(job, f'{checkpoint} is gone; to train again, remove {folder}')
            self._fail(job, status_of(job).reason)
            return
        taken = {attempt.slot for attempt in self.running}
        slot = min(set(range(self.launcher.jobs)) - taken)
        attempt = Attempt(job, slot, self.launcher)
        started = attempt.start()
        self.running.append(attempt)
        self.reporter.started(job, '' if started else attempt.lock.holder())

    def _look(self) -> None:
        """See which have ended."""
        for attempt in list(self.running):
            if attempt.ended() and self.signal is None:
                self.running.remove(attempt)
                reason = attempt.close()
                if reason:
                    self._fail(attempt.job, reason)
                else:
                    self.reporter.done(attempt.job)
                    self.changed(attempt.job)

    def _fail(self, job: Job, reason: str) -> None:
        """Note that a job failed."""
        self.failed.append(job)
        self.reporter.failed(job, reason)
        self.changed(job)

    def _stop(self) -> None:
        """Stop what runs."""
        for attempt in self.running:
            attempt.interrupt()
        deadline = time.monotonic() + PATIENCE
        for attempt in self.running:
            attempt.abandon(deadline)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Have signals that end a program noted, for as long as processes have to be stopped first."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals come to the main thread only
            return
        before = {}
        for name in ('SIGINT', 'SIGTERM', 'SIGHUP'):
            number = getattr(signal, name, None)
            # nohup has SIGHUP ignored; processes that we start must not inherit an ignored SIGINT
            if number is not None and (name != 'SIGHUP' or signal.getsignal(number) != signal.SIG_IGN):
                before[number] = signal.signal(number, self._note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        """Note a signal."""
        self.signal = number


def checkpoint_of(training: Job | None) -> Path | None:
    """Checkpoint of a training that is done; None for no training."""
    if training is None:
        return None
    return (training.folder / status_of(training).results['checkpoint']).resolve()
