# SPDX-License-Identifier: Apache-2.0
"""Fills the tables of a plan: runs its jobs and writes down what there is after each."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.utils.dl_utils import TORCH_VERSION

from ...models.skeleton import build_skeleton
from ...utils.files import FolderLock
from ...version import __version__
from ..benchmark.report import cpu_name
from ..parameters import count_parameters, mebibytes
from . import plot, tables
from .launcher import Launcher, cores
from .plan import Job, Plan
from .progress import Reporter
from .state import status_of
from .work import Scheduler

LOCK = '.lock'
TABLES = 'tables.md'
SHOWN = 3  # rows that a job is for, in the plan


class Ablation:
    """A plan and the tables that it fills.

    Args:
        plan: what there is to do.
        launcher: knows the commands.
        command: with which the user asked for it; it stands above the tables.
        machine: words for the hardware, also above the tables.
    """

    def __init__(self, plan: Plan, launcher: Launcher, command: Sequence[str], machine: str) -> None:
        self.plan, self.launcher = plan, launcher
        self._first_line = tables.first_line(plan, command, machine)
        self._sizes: dict[Path, Mapping[str, float]] | None = None

    def run(self, reporter: Reporter) -> int:
        """Do what is not done yet, and keep the tables up to date.

        Args:
            reporter: is told what happens.

        Returns:
            0: all is done; 1: some jobs failed; more than 128: a signal stopped it.

        Raises:
            BlockingIOError: another start works in the same folder.
        """
        lock = FolderLock(self.plan.out / LOCK)
        if not lock.take():
            raise BlockingIOError(
                f'{lock.holder()} fills the tables in {self.plan.out} already: '
                'wait for it, or choose another folder with --out'
            )
        try:
            code = Scheduler(self.plan.jobs, self.launcher, reporter, self._changed).run()
            self.write_tables()
        finally:
            lock.free()
        return code

    def write_tables(self, suites: Sequence[str] | None = None) -> None:
        """Write Markdown, CSV and picture of suites, and all tables in one file.

        Args:
            suites: names; None: all of the plan.
        """
        out, data = self.plan.out, self.plan.base.data
        for suite in self.plan.suites:
            if suites is None or suite.name in suites:
                rows = tables.measure(self.plan, suite, self._model_sizes())
                text = tables.markdown(suite, rows, data, self.plan.seeds)
                tables.write(out / f'{suite.name}.md', f'{self._first_line}\n{text}')
                tables.write(out / f'{suite.name}.csv', tables.csv_text(suite, rows, data))
                plot.save(plot.draw(suite, rows, data), out / f'{suite.name}.png')
        found = [out / f'{name}.md' for name in self.plan.catalogue.suites]
        texts = [path.read_text(encoding='utf-8') for path in found if path.is_file()]
        tables.write(out / TABLES, tables.together(texts))

    def describe(self) -> str:
        """What there is to do, a line a job."""
        plan = self.plan
        words = dict(done='done', failed='failed', open='to run')
        lines = [
            f'{plan.count("train")} trainings of {plan.iterations or "unknown"} iterations (those of the base) and '
            f'{plan.count("test")} tests, {self.launcher.jobs} side by side, on {plan.base.data}; '
            f'results go to {plan.out}'
        ]
        for job in plan.jobs:
            status = status_of(job)
            reason = f': {status.reason}' if status.reason else ''
            rows = [f'{e.suite.name}/{e.row.name}' for e in plan.users(job) if e.chosen]
            more = f', and {len(rows) - SHOWN} more' if len(rows) > SHOWN else ''
            listed = ', '.join(rows[:SHOWN])
            lines.append(f'  {words[status.state]:6}  {job}: for {listed}{more}{reason}')
        return '\n'.join(lines)

    def _changed(self, job: Job) -> None:
        """Renew the tables that a job is in."""
        self.write_tables([entry.suite.name for entry in self.plan.users(job)])

    def _model_sizes(self) -> dict[Path, Mapping[str, float]]:
        """Sizes of the models of all configs, counted once."""
        if self._sizes is None:
            counted: dict[str, Mapping[str, float]] = {}
            self._sizes = {}
            for path, resolved in self.plan.resolved.items():
                key = json.dumps(resolved.model, sort_keys=True, default=str)
                if key not in counted:
                    counted[key] = model_sizes(resolved.model)
                self._sizes[path] = counted[key]
        return self._sizes


def model_sizes(model: dict) -> dict[str, float]:
    """Size of a model's parameters as float32.

    Args:
        model: its config.

    Returns:
        ``total_mib`` and ``trainable_mib``; empty for a model that cannot be built: its job says why.
    """
    try:
        count = count_parameters(build_skeleton(model))['all']
    except Exception:  # whatever is wrong with one row's model, the others have their tables
        return {}
    return dict(total_mib=mebibytes(count.total), trainable_mib=mebibytes(count.trainable))


def machine_words() -> str:
    """Hardware and versions, in a line."""
    import torch

    count = torch.cuda.device_count()
    names = [torch.cuda.get_device_name(number) for number in range(count)]
    gpus = ', '.join(f'{names.count(name)} x {name}' for name in dict.fromkeys(names)) or 'no GPU'
    return f'{cpu_name()}, {cores()} cores, {gpus}; torch {TORCH_VERSION}, ovavss_mm {__version__}'
