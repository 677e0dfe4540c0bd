# SPDX-License-Identifier: Apache-2.0
"""Train and test the rows of ablation tables through mim, and write the tables.

Rows that need the same trained model share it. Each suite gets a table as Markdown and CSV and a picture in
--out, renewed whenever a job ends: mean and standard deviation over the seeds, beside the paper's numbers.
Start the same command again after an interruption: what is done is kept, a training goes on from its last
checkpoint, what failed is tried again. A row that fails is marked with its log, and the exit status is 1.
"""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

sys.path.append(str(Path(__file__).resolve().parents[1]))  # of a checkout that is not installed

from ovavss_mm.utils.files import FolderLock

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
MIM = (sys.executable, '-m', 'mim')  # the script `mim` may be off the path, or another Python's
SIGNALS = (signal.SIGINT, signal.SIGTERM)
ERROR = re.compile(r'error: |(?!subprocess\.Called)[\w.]*(Error|Exception|Interrupt)\b')

EXAMPLES = """examples (the data: tools/dataset_converters/mini_world.py --out data/mini)
  python tools/ablate.py --suite table2 table3 table4 table5 sound --base mini --dry-run
  python tools/ablate.py --suite table3 --rows none --base mini --seeds 0 1 2
  python tools/ablate.py --suite all --base avsbench-ov
  python tools/ablate.py --suite table3 table4 --base my_configs/mine.py
  python tools/ablate.py --suite sound --base configs/mini/tpavi_mini.py --checkpoint work_dirs/tpavi_mini/iter_2400.pth
  python tools/ablate.py --suite all --base mini --out work_dirs/short --cfg-options train_cfg.max_iters=20
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=form)
    add = parser.add_argument
    add('--suite', nargs='+', required=True, help="of configs/ablations/suites.yml, or 'all'")
    add('--rows', nargs='+', metavar='NAME', help='run these rows of the suites (default: all)')
    add('--base', required=True, help='of the rows: mini, avsbench-ov, or the path of a config')
    words = 'of a model of the base: test it in the rows that would train one, and train nothing'
    add('--checkpoint', type=Path, metavar='CKPT', help=words)
    add('--seeds', nargs='+', type=int, default=[0], metavar='N', help='of each row (default: 0)')
    add('--jobs', type=int, metavar='N', help='side by side (default: one a GPU; without one, 1)')
    add('--out', type=Path, metavar='DIR', help='default: work_dirs/ablate/<base>')
    add('--dry-run', action='store_true', help='print what would be done, and start nothing')
    add('--tables-only', action='store_true', help='write the tables of what is done')
    words = 'change values of all configs: a.b=1'
    add('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help=words)
    args = parser.parse_args(argv)
    for name, least, values in (('seeds', 0, args.seeds), ('jobs', 1, [1 if args.jobs is None else args.jobs])):
        if min(values) < least:
            parser.error(f'--{name} must be at least {least}, got {min(values)}')
    if wrong := [option for option in args.cfg_options if not re.match('[^=]+=', option)]:
        parser.error(f'--cfg-options are KEY=VALUE, got {wrong[0]!r}')
    return args


def main(
    argv: Sequence[str] | None = None,
    configs: Path = CONFIGS,
    mim: Sequence[str] = MIM,
    gpus: Sequence[str] | None = None,
) -> None:
    """Fill tables; ``gpus`` are those to use, None takes the visible ones."""
    args = parse_args(argv)
    os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # waiting threads leave busy cores to others
    # imported here, as torch takes seconds
    from ovavss_mm.compat import import_quietly

    import_quietly('ovavss_mm.engine.launch')
    from ablation.plan import Plan
    from ablation.tables import Tables

    command = shlex.join(['ablate.py', *(sys.argv[1:] if argv is None else argv)])
    try:
        words = (args.suite, args.base, args.seeds, args.out, args.rows, args.cfg_options, args.checkpoint)
        plan = Plan(configs, *words)
        gpus = visible_gpus() if gpus is None else gpus
        tables = Tables(plan, f'`{command}`; base {plan.base_config.stem}, seeds {plan.seeds}\n')
        runner = Runner(plan, mim, gpus, args.jobs or max(1, len(gpus)), tables.write)
        if args.dry_run:
            return print(runner.describe())
        code = 0 if args.tables_only else runner.run()
        tables.write()
    except (OSError, ValueError, yaml.YAMLError) as error:
        sys.exit(f'error: {error}')
    if code:
        print('stopped, or some jobs failed; the same command goes on from here')
    print(f'tables: {plan.out / "tables.md"}')
    sys.exit(code)


class Runner:
    """Runs the jobs of a plan; ``changed`` is called with the suites that an ended job is in."""

    def __init__(self, plan: Any, mim: Sequence[str], gpus: Sequence[str], jobs: int, changed: Callable) -> None:
        self.plan, self.mim, self.gpus, self.jobs, self.changed = plan, mim, gpus, jobs, changed
        self.slots, self.processes = list(range(jobs)), []
        self.guard, self.failed, self.signal = threading.RLock(), False, 0

    def describe(self) -> str:
        """What there is to do, a line a job with its rows."""
        kinds = [job.kind for job in self.plan.jobs]
        words = f'{kinds.count("train")} trainings and {kinds.count("test")} tests, on '
        lines = [f'{words}{self.plan.data}, {self.jobs} side by side, in {self.plan.out}']
        for job in self.plan.jobs:
            state, _, reason, _ = job.status()
            rows = ', '.join(f'{row.suite}/{row.name}' for row in self.plan.users(job))
            lines.append(f'  {state:6}  {job}: for {rows} {reason}'.rstrip())
        return '\n'.join(lines)

    def command(self, job: Any) -> list[str]:
        """The command of a job; the seed comes last, as it holds whatever the options say."""
        command = [*self.mim, job.kind, 'ovavss_mm', str(job.config)]
        command += ['--base', str(job.base)] if job.base else []
        if job.kind == 'test':
            checkpoint = job.training.checkpoint if job.training else job.given
            command += ['--checkpoint', str(checkpoint.resolve()) if checkpoint else 'none']
        else:
            command += ['--resume', *(['--gpus', '1'] if self.gpus else [])]
        command += ['--work-dir', str(job.folder.resolve())]
        return [*command, '--cfg-options', *self.plan.options, *job.options, f'randomness.seed={job.seed}']

    def environ(self, slot: int) -> dict[str, str]:
        """The environment of a command in one of the places side by side."""
        environ = dict(os.environ, PYTHONUNBUFFERED='1')  # logs grow as things happen
        if self.gpus:
            environ['CUDA_VISIBLE_DEVICES'] = self.gpus[slot % len(self.gpus)]
        elif hasattr(os, 'sched_getaffinity'):
            threads = max(1, len(os.sched_getaffinity(0)) // self.jobs)
            environ.setdefault('OMP_NUM_THREADS', str(threads))
        return environ

    def run(self) -> int:
        """Run what is not done; 0: all are done, 1: some failed, 128 + n: signal n stopped it."""
        lock = FolderLock(self.plan.out / '.lock')
        if not lock.take():
            raise BlockingIOError(f'{lock.holder()} fills {self.plan.out}: choose another --out')
        before = {number: signal.signal(number, self._stop) for number in SIGNALS}
        with ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(self._fill, [job for job in self.plan.jobs if not job.training]))
        for number, handler in before.items():
            signal.signal(number, handler)
        lock.free()
        return 128 + self.signal if self.signal else int(self.failed)

    def _fill(self, training: Any) -> None:
        """Run a training and its tests, or the test of what is not trained, unless they are done."""
        for job in [training, *(job for job in self.plan.jobs if job.training == training)]:
            status = job.status()
            if status.state == 'done' or self.signal:
                continue
            tried = status.state == 'open' or status.where == job.log  # what failed is tried again
            reason = self._attempt(job) if tried else status.reason
            if not self.signal:
                self.failed |= bool(reason)
                words = f'FAILED: {reason}; log: {job.log}' if reason else 'done'
                ended = sum(job.status().state != 'open' for job in self.plan.jobs)
                print(f'[{ended}/{len(self.plan.jobs)}] {job}: {words}', flush=True)
                with self.guard:
                    self.changed({row.suite for row in self.plan.users(job)})

    def _attempt(self, job: Any) -> str:
        """Run a job, save what became of it, and say why it failed; empty if it did not."""
        lock = FolderLock(job.folder / '.running')
        if not lock.take():
            print(f'{job}: waits for {lock.holder()} of an earlier start', flush=True)
            while not self.signal and not lock.take():
                time.sleep(0.2)
        began, slot = time.monotonic(), self.slots.pop()
        with open(job.log, 'ab') as log, self.guard:
            if self.signal:
                return ''
            command, start = self.command(job), log.tell()
            log.write(f'==> {shlex.join(command)}\n'.encode())
            log.flush()
            # the process holds the lock as long as it lives, even without us
            options = dict(stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
            options |= dict(env=self.environ(slot), pass_fds=lock.numbers())
            process = subprocess.Popen(command, **options)
            self.processes.append(process)
        lock.sign(process.pid)
        print(f'{job}: started', flush=True)
        code = process.wait()
        self.slots.append(slot)
        lock.free()
        if self.signal:
            return ''
        try:
            if code:
                lines = job.log.read_bytes()[start:].decode('utf-8', 'replace').splitlines()
                lines = [line.strip() for line in lines if line.strip()]
                line = ([line for line in lines if ERROR.match(line)] or lines)[-1]
                raise ValueError(f'{line} (exit status {code})')
            job.save(results=job.collect(time.monotonic() - began))
        except (FileNotFoundError, ValueError) as error:
            job.save(reason=str(error))
            return str(error)
        return ''

    def _stop(self, number: int, frame: object) -> None:
        """Stop what runs: mim stops what it started on SIGINT alone. A second signal kills."""
        with self.guard:
            kind, self.signal = signal.SIGKILL if self.signal else signal.SIGINT, number
        for process in self.processes:
            process.send_signal(kind)


def visible_gpus() -> list[str]:
    """Names of the usable GPUs for ``CUDA_VISIBLE_DEVICES``."""
    import torch

    count = torch.cuda.device_count()
    given = [name.strip() for name in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')]
    return given[:count] if given[0] else [str(number) for number in range(count)]


if __name__ == '__main__':
    main()
