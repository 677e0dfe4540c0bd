# SPDX-License-Identifier: Apache-2.0
"""The commands that train and test, and what they find around them."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .plan import VARIABLE, Job, Plan

MIM = (sys.executable, '-m', 'mim')  # works where the script `mim` is not on the path, or of another Python


class Launcher:
    """Writes the commands of jobs.

    Args:
        plan: whose jobs they are.
        mim: how mim is called.
        gpus: what ``CUDA_VISIBLE_DEVICES`` calls the GPUs; empty: none.
        jobs: how many run side by side; None: one a GPU, or one.
        environ: what commands find in their environment; None: what this process found.

    Raises:
        ValueError: fewer than one job.
    """

    def __init__(
        self,
        plan: Plan,
        mim: Sequence[str] = MIM,
        gpus: Sequence[str] = (),
        jobs: int | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if jobs is not None and jobs < 1:
            raise ValueError(f'--jobs must be at least 1, got {jobs}')
        self.plan, self.mim, self.gpus = plan, list(mim), list(gpus)
        self.jobs = jobs or max(1, len(self.gpus))
        self.environ = dict(os.environ if environ is None else environ)

    def command(self, job: Job, checkpoint: Path | None = None) -> list[str]:
        """The command of a job.

        Args:
            job: to run.
            checkpoint: to be tested.
        """
        command = [*self.mim, job.kind, 'ovavss_mm', str(job.config)]
        if job.kind == 'test':
            command += ['--checkpoint', str(checkpoint)]
        elif self.gpus:
            command += ['--gpus', '1']
        command += ['--work-dir', str(job.folder.resolve())]
        command += ['--resume'] if job.kind == 'train' else []
        # The seed last: it holds whatever the options say.
        return [*command, '--cfg-options', *self.plan.options, f'randomness.seed={job.seed}']

    def environment(self, slot: int) -> dict[str, str]:
        """The environment of a command.

        Args:
            slot: the how manieth of those that run side by side, from 0.
        """
        environ = dict(self.environ)
        environ[VARIABLE] = self.plan.base.variable
        environ['PYTHONUNBUFFERED'] = '1'  # so that logs grow as things happen
        if self.gpus:
            environ['CUDA_VISIBLE_DEVICES'] = self.gpus[slot % len(self.gpus)]
        else:
            environ.setdefault('OMP_NUM_THREADS', str(max(1, cores() // self.jobs)))
        return environ


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` calls the GPUs that can be used here."""
    import torch

    count = torch.cuda.device_count()
    given = [name.strip() for name in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')]
    return given[:count] if given[0] else [str(number) for number in range(count)]
