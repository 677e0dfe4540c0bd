# SPDX-License-Identifier: Apache-2.0
"""A loss or a gradient that is not finite changes nothing but a count, and many of them stop the training."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS, OPTIM_WRAPPERS

sys.path.insert(0, str(Path(__file__).parent))

import toy_training as toy  # noqa: E402
from toy_training import GOOD, INF_GRAD, NAN_GRAD, NAN_LOSS  # noqa: E402

from ovavss_mm.engine.hooks import NonFiniteLossError  # noqa: E402
from ovavss_mm.engine.optim_wrapper import FiniteOptimWrapper  # noqa: E402
from ovavss_mm.engine.runner import AVRunner  # noqa: E402
from ovavss_mm.utils import files  # noqa: E402
from ovavss_mm.utils.safe_loading import read_checkpoint  # noqa: E402

BAD = dict(nan_loss=NAN_LOSS, nan_grad=NAN_GRAD, inf_grad=INF_GRAD)
STATISTICS = ('norm.running', 'norm.num')


@HOOKS.register_module(force=True)
class Witness(Hook):
    """Keeps the state after each iteration."""

    states: list

    def before_train(self, runner):
        self.states = [toy.state_of(runner)]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.states.append(toy.state_of(runner))


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())


def finite(state: dict) -> bool:
    return all(value.isfinite().all() for value in state.values())


def train(kinds: list, work_dir: Path, **kwargs) -> tuple:
    """Train on a batch of two clips of each kind; gives the runner, the states and the log."""
    kinds = [kind for kind in kinds for _ in range(2)]
    runner = toy.runner_of(kinds, work_dir, dict(witness=dict(type='Witness')), **kwargs)
    runner.train()
    states = next(hook for hook in runner.hooks if isinstance(hook, Witness)).states
    return runner, states, Path(runner.logger.log_file).read_text()


def total(runner) -> int:
    hub = runner.message_hub
    return hub.get_info('skipped_updates') if 'skipped_updates' in hub.runtime_info else 0


@pytest.mark.parametrize('kind', BAD.values(), ids=BAD)
@pytest.mark.parametrize(
    'clip', [dict(max_norm=0.5), dict(type='value', clip_value=0.5), None], ids=['norm', 'value', 'none']
)
def test_a_bad_batch_changes_nothing(tmp_path, kind, clip):
    """Neither weights, nor the optimizer's moments, nor the statistics of norms; the next batch does."""
    if kind == INF_GRAD and clip and clip.get('type') == 'value':
        pytest.skip('the clipped value of an infinite gradient is finite')
    runner, states, log = train([GOOD, GOOD, kind, GOOD], tmp_path, clip_grad=clip and dict(clip))
    assert equal(states[2], states[3]) and not equal(states[3], states[4])
    assert all(finite(state) for state in states)
    assert total(runner) == 1
    what = {NAN_LOSS: 'loss, loss_a, loss_b'}.get(kind, 'gradients')
    assert f'iteration 3: not finite: {what}; this update is skipped' in log
    assert 'Clips: clip4, clip5' in log and 'clip3' not in log
    lines = [line for line in log.splitlines() if 'Iter(train)' in line]
    assert ['skipped: 1' in line for line in lines] == [False, False, True, True]


@pytest.mark.parametrize('kind', BAD.values(), ids=BAD)
def test_mmengine_alone_would_be_lost(tmp_path, kind):
    """What the tests above guard against."""
    hooks = dict(nonfinite=None)
    runner = toy.runner_of([GOOD, kind] * 4, tmp_path, hooks, type='OptimWrapper')
    runner.train()
    assert not finite(toy.state_of(runner))


def test_a_good_training_is_that_of_mmengine(tmp_path):
    """Bit for bit."""
    _, states, log = train([GOOD] * 6, tmp_path / 'a')
    runner = toy.runner_of([GOOD] * 12, tmp_path / 'b', dict(nonfinite=None), type='OptimWrapper')
    runner.train()
    assert equal(states[-1], toy.state_of(runner))
    assert 'skipped' not in log and 'not finite' not in log


def test_many_bad_batches_in_a_row_stop_with_the_state_saved(tmp_path):
    kinds = [GOOD, NAN_LOSS, NAN_LOSS, GOOD, NAN_GRAD, NAN_LOSS, NAN_LOSS, GOOD]
    kinds = [kind for kind in kinds for _ in range(2)]
    hooks = dict(nonfinite=dict(toy.HOOK, max_in_row=3), witness=dict(type='Witness'))
    runner = toy.runner_of(kinds, tmp_path, hooks)
    with pytest.raises(NonFiniteLossError) as caught:
        runner.train()
    message = str(caught.value)
    path = tmp_path / 'nonfinite_iter_7.pth'
    assert str(path) in message and 'load_from=' in message and 'optimizer.lr' in message
    assert '3 updates in a row' in message and 'clip8, clip9, clip10' in message
    assert 'clip2' not in message, 'of an earlier row'
    saved = read_checkpoint(str(path))
    witness = next(hook for hook in runner.hooks if isinstance(hook, Witness))
    assert all(torch.equal(value, witness.states[4][key]) for key, value in saved['state_dict'].items())
    assert saved['meta']['iter'] == 7 and 'optimizer' in saved and finite(saved['state_dict'])
    assert [p.name for p in tmp_path.glob('*.pt*')] == ['nonfinite_iter_7.pth']
    assert not (tmp_path / 'last_checkpoint').exists(), '--resume goes on from a checkpoint'


STOP = dict(nonfinite=dict(toy.HOOK, max_in_row=1))


def test_a_state_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def fail(number):
        raise OSError('no space left on device')

    monkeypatch.setattr(files.os, 'fsync', fail)
    runner = toy.runner_of([NAN_LOSS] * 4, tmp_path, STOP)
    with pytest.raises(OSError, match='no space'):
        runner.train()
    assert not [path for path in tmp_path.iterdir() if 'nonfinite' in path.name]


def test_what_a_kill_left_of_a_state_goes_at_the_next_start(tmp_path):
    if not hasattr(os, 'fork'):
        pytest.skip('no fork')
    child = os.fork()
    if child == 0:  # it ends as if killed, when all is written and nothing renamed
        files.os.replace = lambda *_: os._exit(9)
        try:
            toy.runner_of([NAN_LOSS] * 4, tmp_path, STOP).train()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = [path.name for path in tmp_path.iterdir() if 'nonfinite' in path.name]
    assert len(left) == 1 and left[0].startswith('.nonfinite_iter_1.') and '.part' in left[0]
    hook = dict(checkpoint=dict(type='AtomicCheckpointHook', by_epoch=False))
    toy.runner_of([GOOD] * 4, tmp_path, hook).train()
    assert not [path for path in tmp_path.iterdir() if 'nonfinite' in path.name]


def test_the_count_outlives_a_restart(tmp_path):
    hook = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3))
    runner = toy.runner_of([GOOD, NAN_LOSS, GOOD] * 2, tmp_path / 'a', hook, batch_size=1)
    runner.model.norm = torch.nn.Identity()  # of one row there are no statistics
    runner.train_loop._max_iters = 3
    runner.train()
    again = toy.runner_of([GOOD, NAN_LOSS, GOOD] * 2, tmp_path / 'b', hook, batch_size=1)
    again.model.norm = torch.nn.Identity()
    again._load_from, again._resume = str(tmp_path / 'a' / 'iter_3.pth'), True
    again.train()
    assert total(runner) == 1 and total(again) == 2


@pytest.mark.parametrize('bad', [0, 1], ids=['first', 'second'])
def test_one_bad_batch_of_two_costs_their_update(tmp_path, bad):
    kinds = [GOOD, GOOD, GOOD, GOOD, GOOD, GOOD]
    kinds[2 + bad] = NAN_LOSS
    runner, states, log = train(kinds, tmp_path, accumulative_counts=2)
    assert not equal(states[0], states[2])
    weights = [{k: v for k, v in state.items() if not k.startswith(STATISTICS)} for state in states]
    assert equal(states[2], states[4]) and not equal(states[4], states[6])
    assert equal(weights[2], weights[3]), 'no update between'
    assert total(runner) == 1 and f'Clips: clip{4 + 2 * bad}, clip{5 + 2 * bad}\n' in log


def test_the_hosts_mixed_precision_wrapper_is_left_alone(tmp_path, monkeypatch):
    """Its scaler leaves out updates by itself; here it runs on a CPU."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    scaler = partial(torch.amp.GradScaler, device='cpu')
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', scaler)
    amp = dict(type='AmpOptimWrapper', loss_scale='dynamic', dtype='bfloat16')
    runner, states, log = train([GOOD, NAN_GRAD, GOOD], tmp_path, **amp)
    weights = [{k: v for k, v in s.items() if not k.startswith(STATISTICS)} for s in states]
    assert equal(weights[1], weights[2]) and not equal(weights[2], weights[3])
    assert total(runner) == 0 and 'not finite' not in log


def test_two_processes_leave_out_the_same_update(tmp_path):
    """The loss of one process is not a number."""
    env = dict(os.environ, OMP_NUM_THREADS='1')
    env['PYTHONPATH'] = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    done = subprocess.run(
        [*command, toy.__file__, str(tmp_path), '--two'],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (torch.load(tmp_path / f'rank{rank}.pth', weights_only=True) for rank in (0, 1))
    assert all(torch.equal(v, two[k]) for k, v in one.items() if not k.startswith(STATISTICS)), (
        'each process has its own statistics'
    )
    assert finite(one) and finite(two)
    assert one['norm.num_batches_tracked'] == two['norm.num_batches_tracked'] == 2
    assert one['0.step'] == 2, 'of three batches'
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'not finite: loss, loss_a, loss_b; this update is skipped (1 in a row, 1 in all). Clips: clip' in log
    assert 'clip5' in log and 'clip4' not in log, 'of the process whose loss was bad'


def test_further_hooks_get_the_losses_as_numbers(tmp_path):
    """Of a GPU each loss would be waited for."""
    seen = []

    @HOOKS.register_module(force=True)
    class LossWitness(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            seen.append(dict(outputs))

    runner = toy.runner_of([GOOD] * 2, tmp_path, dict(witness=dict(type='LossWitness')))
    runner.train()
    assert [type(value) for value in seen[0].values()] == [float] * len(seen[0]) and 'loss' in seen[0]
    assert runner.message_hub.get_scalar('train/loss').current() == seen[0]['loss']


def test_clips_for_a_gpu_are_in_pinned_memory(monkeypatch):
    """Unless the config says otherwise."""
    monkeypatch.setattr(Runner, 'build_dataloader', staticmethod(lambda cfg: cfg))
    build = AVRunner.build_dataloader
    assert build(dict(num_workers=2)) == dict(num_workers=2)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert build(dict(num_workers=2)) == dict(num_workers=2, pin_memory=True)
    assert build(dict(pin_memory=False)) == dict(pin_memory=False)


def test_what_the_hook_takes():
    for value in (0, -1, 2.5, None):
        with pytest.raises(ValueError, match=f'max_in_row.*{value}'):
            HOOKS.build(dict(toy.HOOK, max_in_row=value))


def test_an_optimizer_without_gradients_is_left_to_do_as_it_does():
    parameter = torch.nn.Parameter(torch.ones(2))
    wrapper = OPTIM_WRAPPERS.build(
        dict(type='FiniteOptimWrapper', optimizer=torch.optim.SGD([parameter], lr=1.0), clip_grad=dict(max_norm=1))
    )
    assert isinstance(wrapper, FiniteOptimWrapper)
    wrapper.step()
    assert not wrapper.skipped and torch.equal(parameter.detach(), torch.ones(2))
    wrapper.update_params(parameter.sum())
    assert not wrapper.skipped and not torch.equal(parameter.detach(), torch.ones(2))
