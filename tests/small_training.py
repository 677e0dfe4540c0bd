# SPDX-License-Identifier: Apache-2.0
"""Trainings of the tiny model on the tiny archive, for tests that end and resume them.

As a script it is ``tools/train.py`` with its arguments. With ``SLOW_WRITE=SECONDS`` in the environment
checkpoints are written in small pieces that take so long, and a kill meets one half written.
"""

import os
import random
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from archive import write_archive
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmseg.registry import HOOKS, METRICS
from tiny_model import tiny_config

from ovavss_mm.utils import files
from ovavss_mm.utils.safe_loading import read_checkpoint

ROOT = Path(__file__).resolve().parents[1]
PIECES = 10
PATIENCE = 120  # s


@METRICS.register_module(force=True)
class DrawingMetric(BaseMetric):
    """Draws from all generators, as a validation may."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        """Draw."""
        self.results.append(random.random() + np.random.rand() + float(torch.rand(())))

    def compute_metrics(self, results: list) -> dict:
        """A figure that grows."""
        return dict(drawn=len(results))


@HOOKS.register_module(force=True)
class LossesHook(Hook):
    """Writes the loss of each iteration, to the last bit, into ``losses.txt``."""

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Write one."""
        with open(Path(runner.work_dir) / 'losses.txt', 'a') as file:
            file.write(f'{runner.iter + 1} {float(outputs["loss"]).hex()}\n')


def write_config(folder: Path, iterations: int = 8, **options: Any) -> Path:
    """Write archive and config into a folder; ``options`` are merged in, with ``__`` for dots."""
    data = folder / 'archive'
    if not data.exists():
        write_archive(data)
    cfg = Config.fromfile(ROOT / 'configs/_base_/default_runtime.py')
    cfg.merge_from_dict(Config.fromfile(ROOT / 'configs/_base_/datasets/avsbench_ov.py')._cfg_dict)
    cfg.model = tiny_config(neck=dict(fusion=dict(dropout=0.3)))
    dataset = dict(data_root=str(data), base_names='base_names.txt')
    cfg.merge_from_dict(
        dict(
            train_dataloader=dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dataset),
            val_dataloader=dict(num_workers=0, persistent_workers=False, dataset=dataset),
            default_hooks=dict(checkpoint=dict(interval=2, max_keep_ckpts=2)),
            custom_imports=dict(imports=[*cfg.custom_imports.imports, 'small_training']),
        )
    )
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type == 'ResizeClip':
            step.short_side = (24, 32, 40)
    for step in cfg.val_dataloader.dataset.pipeline:
        if step.type == 'ResizeClip':
            step.short_side = 32
    cfg.pop('test_dataloader'), cfg.pop('test_evaluator')
    cfg.default_hooks.pop('visualization')
    cfg.visualizer = dict(type='Visualizer', vis_backends=[])
    cfg.val_evaluator = dict(type='DrawingMetric')
    cfg.val_cfg = dict(type='ValLoop')
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=3)
    cfg.optim_wrapper = dict(
        type='FiniteOptimWrapper', optimizer=dict(type='AdamW', lr=1e-3), clip_grad=dict(max_norm=1.0)
    )
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=0.1, begin=0, end=6, by_epoch=False)]
    cfg.custom_hooks = [dict(type='StrictCheckpointHook'), dict(type='LossesHook')]
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    path = folder / 'small.py'
    cfg.dump(path)
    return path


def write_mini_config(folder: Path, iterations: int) -> Path:
    """Write the shipped mini config, shortened, and a mini world for it into a folder."""
    data = folder / 'mini'
    tool = ROOT / 'tools/dataset_converters/mini_world.py'
    sizes = ('--train', '24', '--val', '4', '--test', '4')
    subprocess.run([sys.executable, tool, '--out', data, *sizes], check=True)
    cfg = Config.fromfile(ROOT / 'configs/mini/ovavss_mini.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(dict(num_workers=0, persistent_workers=False))
        loader.dataset.data_root = str(data)
    cfg.train_cfg.update(dict(max_iters=iterations, val_interval=iterations // 2))
    cfg.default_hooks.checkpoint.update(dict(interval=2, max_keep_ckpts=2))
    cfg.custom_imports.imports = [*cfg.custom_imports.imports, 'small_training']
    cfg.custom_hooks = [dict(type='StrictCheckpointHook'), dict(type='LossesHook')]
    path = folder / 'mini.py'
    cfg.dump(path)
    return path


class Training(subprocess.Popen):
    """A training as a process of its own, in the folder of its config.

    It prints into a file: a pipe that nobody reads would hold it up once that is full.
    """

    def __init__(self, config: Path, work_dir: Path, *args: str, slow: float = 0, processes: int = 1) -> None:
        paths = os.pathsep.join(map(str, [ROOT, Path(__file__).parent]))
        env = os.environ | dict(OMP_NUM_THREADS='1', SLOW_WRITE=str(slow), PYTHONPATH=paths)
        command = [__file__, str(config), '--work-dir', str(work_dir), *args]
        if processes > 1:
            torchrun = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
            command = [*torchrun, *command, '--launcher', 'pytorch']
        self.log = work_dir.with_suffix('.printed')
        with self.log.open('w') as file:
            super().__init__(
                [sys.executable, *command],
                env=env,
                cwd=config.parent,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def printed(self) -> str:
        """What it has printed so far."""
        return self.log.read_text()

    def finish(self, timeout: float = PATIENCE) -> str:
        """Wait for its end, which must be a good one; what it printed."""
        try:
            code = self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            code = f'none after {timeout} s'
        assert code == 0, f'exit code {code}: {self.printed()[-3000:]}'
        return self.printed()


def losses(work_dir: Path) -> dict[int, set[str]]:
    """All losses that were written, by iteration."""
    found: dict[int, set[str]] = {}
    for line in (work_dir / 'losses.txt').read_text().splitlines():
        if len(line.split()) == 2:
            found.setdefault(int(line.split()[0]), set()).add(line.split()[1])
    return found


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint."""
    return read_checkpoint(path)['state_dict']


def check_folder(work_dir: Path) -> int:
    """All checkpoints are whole, and the one that ``last_checkpoint`` names is there; its iteration, or 0."""
    for path in work_dir.glob('[!.]*.pth'):
        assert weights(path), path
    last = work_dir / 'last_checkpoint'
    if not last.exists():
        return 0
    path = Path(last.read_text())
    assert path.is_file(), f'{last} names {path}, which is not there'
    return int(path.stem.split('_')[1])


def same(a: Path, b: Path) -> bool:
    """Whether two checkpoints have the same weights, to the last bit."""
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class _SlowFile:
    """A file for writing, in pieces."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.file = open(*args, **kwargs)  # noqa: SIM115

    def __enter__(self) -> '_SlowFile':
        return self

    def __exit__(self, *args: Any) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, content: bytes | str) -> None:
        """Write bytes slowly."""
        if isinstance(content, str):
            self.file.write(content)
            return
        size = len(content) // PIECES + 1
        for begin in range(0, len(content), size):
            self.file.write(content[begin : begin + size])
            self.file.flush()
            time.sleep(float(os.environ['SLOW_WRITE']) / PIECES)


def _open_slowly(path: Path, mode: str = 'r', **kwargs: Any) -> Any:
    """As ``open``; what is written to a new file goes there slowly."""
    return _SlowFile(path, mode) if mode == 'wb' else open(path, mode, **kwargs)


if __name__ == '__main__':
    torch.set_num_threads(1)
    if float(os.environ.get('SLOW_WRITE', 0)):
        files.open = _open_slowly
    sys.argv[0] = str(ROOT / 'tools/train.py')
    runpy.run_path(sys.argv[0], run_name='__main__')
