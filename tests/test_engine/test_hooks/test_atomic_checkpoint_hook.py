# SPDX-License-Identifier: Apache-2.0
"""Checkpoints are whole whenever they are there."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import METRICS, MODELS, DefaultScope
from mmengine.runner import ValLoop

from ovavss_mm.engine import launch
from ovavss_mm.engine.checkpoints import AtomicFileBackend, get_random_state, set_random_state
from ovavss_mm.engine.launch import hold_work_dir
from ovavss_mm.utils import files
from ovavss_mm.utils.safe_loading import read_checkpoint


@MODELS.register_module(force=True)
class AtomicToy(BaseModel):
    """One layer; validation gives its inputs back."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x, mode='tensor'):
        """Fit 1 to x."""
        loss = (self.layer(x.float()[:, None]) - 1).square().mean()
        return dict(loss=loss) if mode == 'loss' else [loss]


@pytest.fixture
def config(tmp_path, monkeypatch) -> Config:
    """A training of 6 iterations with a checkpoint after each."""
    monkeypatch.setattr(DefaultScope, '_instance_dict', DefaultScope._instance_dict.copy())
    loader = dict(
        batch_size=2, num_workers=0, dataset=[dict(x=1.0), dict(x=2.0)] * 4, collate_fn=dict(type='default_collate')
    )
    hook = dict(type='mmseg.AtomicCheckpointHook', by_epoch=False, interval=1, max_keep_ckpts=2)
    return Config(
        dict(
            default_scope='mmseg',
            model=dict(type='AtomicToy'),
            train_dataloader=dict(loader, sampler=dict(type='InfiniteSampler')),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=6, val_interval=2),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(checkpoint=hook),
            visualizer=dict(type='Visualizer', vis_backends=[]),
            work_dir=str(tmp_path / 'work'),
            experiment_name=tmp_path.name,
        )
    )


def names(config: Config) -> list[str]:
    """Checkpoints in the work directory."""
    return sorted(p.name for p in Path(config.work_dir).glob('*.pth'))


def test_old_checkpoints_go_when_the_new_one_is_whole(config, monkeypatch):
    """At each write the former ones are there, and the pointer names one of them."""
    seen, put = [], AtomicFileBackend.put

    def watched(self, content, path):
        folder = Path(config.work_dir)
        last = folder / 'last_checkpoint'
        seen.append((Path(path).name, names(config), last.exists() and Path(last.read_text()).name))
        put(self, content, path)

    monkeypatch.setattr(AtomicFileBackend, 'put', watched)
    launch.build_runner(config).train()
    assert names(config) == ['iter_5.pth', 'iter_6.pth']
    assert ('iter_5.pth', ['iter_3.pth', 'iter_4.pth'], 'iter_4.pth') in seen


def test_what_a_kill_left_goes_at_the_next_start(config):
    launch.build_runner(config).train()
    folder = Path(config.work_dir)
    files.part_path(folder / 'iter_7.pth').write_bytes(b'half')
    config.resume, config.experiment_name = True, 'again'
    config.train_cfg.max_iters = 7
    config.load_from = (folder / 'last_checkpoint').read_text()
    launch.build_runner(config).train()
    assert names(config) == ['iter_6.pth', 'iter_7.pth']
    assert not list(folder.glob('.*.part*'))


class CountingMetric(BaseMetric):
    """The iterations that were validated; stops at one as a kill would."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.stop_at, self.count = stop_at, 0

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        self.count += 1
        if self.count == self.stop_at:
            raise KeyboardInterrupt
        return dict(acc=float(self.count))


@pytest.mark.parametrize('max_iters', [4, 6], ids=['the_last', 'not_the_last'])
def test_a_validation_that_was_cut_short_is_made_on_resuming(config, max_iters, monkeypatch):
    """Once, with the best checkpoint that comes of it."""
    METRICS.register_module(module=CountingMetric, force=True)
    sampler = dict(type='DefaultSampler', shuffle=False)
    config.val_dataloader = dict(config.train_dataloader, sampler=sampler)
    config.val_evaluator = dict(type='CountingMetric', stop_at=2)
    config.val_cfg, config.train_cfg.max_iters = dict(type='ValLoop'), max_iters
    config.default_hooks.checkpoint.save_best = 'acc'
    with pytest.raises(KeyboardInterrupt):
        launch.build_runner(config).train()
    assert names(config) == ['best_acc_iter_2.pth', 'iter_3.pth', 'iter_4.pth']
    config.val_evaluator.stop_at = None
    validated = []
    run = ValLoop.run
    monkeypatch.setattr(ValLoop, 'run', lambda loop: validated.append(loop.runner.iter) or run(loop))
    for start, expected in enumerate([list(range(4, max_iters + 1, 2)), []]):
        config.resume, config.experiment_name = True, f'{config.experiment_name}_{start}'
        config.load_from = (Path(config.work_dir) / 'last_checkpoint').read_text()
        launch.build_runner(config).train()
        assert validated == expected
        assert (Path(config.work_dir) / 'last_validation').read_text() == str(max_iters)
        validated.clear()


def test_names_in_a_checkpoint_do_not_reach_other_folders(config, tmp_path):
    """A crafted one could have any file removed as the former best or an old checkpoint."""

    @METRICS.register_module(name='GrowingMetric', force=True)
    class GrowingMetric(BaseMetric):
        count = 0

        def process(self, data_batch, data_samples):
            self.results.append(1)

        def compute_metrics(self, results):
            type(self).count += 1
            return dict(acc=float(self.count))

    config.val_dataloader = dict(config.train_dataloader, sampler=dict(type='DefaultSampler', shuffle=False))
    config.val_evaluator, config.val_cfg = dict(type='GrowingMetric'), dict(type='ValLoop')
    config.default_hooks.checkpoint.save_best = 'acc'
    launch.build_runner(config).train()
    assert names(config) == ['best_acc_iter_6.pth', 'iter_5.pth', 'iter_6.pth']
    victim = tmp_path / 'victim.pth'
    victim.write_text('precious')
    last = Path(config.work_dir) / 'iter_6.pth'
    content = read_checkpoint(str(last))
    content['message_hub']['runtime_info'].update(
        best_ckpt=str(victim), keep_ckpt_ids=['/../../victim', '1/../../victim', 5, 6]
    )
    torch.save(content, last)
    config.resume, config.load_from, config.experiment_name = True, str(last), 'again'
    config.train_cfg.max_iters = 8
    launch.build_runner(config).train()
    assert victim.read_text() == 'precious'
    assert {'best_acc_iter_8.pth', 'iter_7.pth', 'iter_8.pth'} <= set(names(config))


def test_backend_keeps_the_old_file_if_writing_fails(tmp_path, monkeypatch):
    """Nothing else is left either."""
    path = tmp_path / 'x'
    backend = AtomicFileBackend()
    backend.put(b'old', path)

    def full(number):
        raise OSError('disk full')

    monkeypatch.setattr(files.os, 'fsync', full)
    with pytest.raises(OSError, match='disk full'):
        backend.put(b'new', path)
    assert path.read_bytes() == b'old' and list(tmp_path.iterdir()) == [path]


def test_late_removal(tmp_path):
    """At the end, not after an error, and not of what was written anew."""
    backend = AtomicFileBackend()
    a, b = tmp_path / 'a', tmp_path / 'b'
    a.write_text('1'), b.write_text('1')
    with pytest.raises(KeyError), backend.removing_late():
        backend.remove(a)
        raise KeyError
    assert a.exists()
    with backend.removing_late():
        backend.remove(a), backend.remove(b)
        AtomicFileBackend().put(b'2', b)
        assert a.exists()
    assert not a.exists() and b.read_text() == '2'


def test_random_state_round_trip(tmp_path):
    """Through a file that is read as plain data, numbers left over in pairs of normal ones included."""

    def draw():
        return random.gauss(0, 1), np.random.standard_normal(), float(torch.randn(()))

    draw()
    torch.save(get_random_state(), tmp_path / 'state.pth')
    first = [draw() for _ in range(3)]
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    set_random_state(torch.load(tmp_path / 'state.pth', weights_only=True))
    assert [draw() for _ in range(3)] == first
    with pytest.raises(ValueError, match='no state'):
        set_random_state(dict(python=1))


def test_second_training_in_a_work_dir_is_refused(tmp_path):
    """The message names folder and process; other ranks do not ask; afterwards the folder is free."""
    with hold_work_dir(tmp_path / 'work'):
        code = (
            'import ovavss_mm; from ovavss_mm.engine.launch import hold_work_dir\n'
            f'with hold_work_dir({str(tmp_path / "work")!r}, "pytorch"): print("held")'
        )
        run = [sys.executable, '-c', code]
        second = subprocess.run(run, capture_output=True, text=True)
        other = subprocess.run(run, capture_output=True, text=True, env=os.environ | dict(RANK='1'))
        assert f'process {os.getpid()}' in second.stderr and str(tmp_path) in second.stderr
        assert 'ValueError' in second.stderr and 'held' in other.stdout
    with hold_work_dir(tmp_path / 'work'):
        pass


def test_a_forked_process_does_not_keep_the_work_dir(tmp_path):
    """Loader processes outlive a killed training by seconds."""
    if not hasattr(os, 'fork'):
        pytest.skip('no fork')
    there, here = os.pipe()
    with hold_work_dir(tmp_path):
        child = os.fork()
        if child == 0:
            os.write(here, b'x')  # what is to be done after the fork has been done
            time.sleep(60)
            os._exit(0)
        os.read(there, 1)
    try:
        with hold_work_dir(tmp_path):
            pass
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
