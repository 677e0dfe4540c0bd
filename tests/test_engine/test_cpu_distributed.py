# SPDX-License-Identifier: Apache-2.0
"""Two processes train as one does; that they test so, test_metric_invariance.py shows."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from ovavss_mm.engine.runner import init_gloo, join_group

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TORCHRUN = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']

PATIENCE = 240  # s


def run(*command: object) -> None:
    """Run a command with the tests' helpers in reach."""
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(HERE.parent)]), OMP_NUM_THREADS='1')
    process = subprocess.run(
        [*map(str, command)], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]


def test_two_processes_make_the_step_of_one_with_all_clips(tmp_path: Path) -> None:
    """Loss and every gradient agree, whatever clip is where: losses are normalised per clip."""
    run(sys.executable, HERE / 'distributed_step.py', tmp_path / 'one.pth')
    run(*TORCHRUN, HERE / 'distributed_step.py', tmp_path / 'two.pth')
    one, two = (torch.load(tmp_path / f'{name}.pth', weights_only=True) for name in ('one', 'two'))
    torch.testing.assert_close(two['loss'], one['loss'], rtol=1e-9, atol=1e-9)
    assert set(one['grads']) == set(two['grads'])
    for name, grad in one['grads'].items():
        torch.testing.assert_close(two['grads'][name], grad, rtol=1e-6, atol=1e-9, msg=name)


def test_gloo_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that was not started by torchrun, or another launcher, gets a plain error."""
    monkeypatch.delenv('RANK', raising=False)
    for launcher in ('pytorch', 'slurm'):
        with pytest.raises(ValueError, match=f"launcher '{launcher}': several processes without a GPU.*torchrun"):
            init_gloo(launcher)


@pytest.mark.parametrize('gpu', [False, True])
def test_processes_that_label_wait_long_for_each_other(monkeypatch, gpu):
    """Each gets its own GPU, where there are GPUs; the process group is one of gloo."""
    called = {}
    for key, value in dict(RANK='1', WORLD_SIZE='2', LOCAL_RANK='1', MASTER_ADDR='localhost').items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(
        torch.distributed, 'init_process_group', lambda *args, **kwargs: called.update(kwargs, args=args)
    )
    monkeypatch.setattr(torch.cuda, 'set_device', lambda number: called.update(gpu=number))
    monkeypatch.setattr(torch.multiprocessing, 'get_start_method', lambda **_: 'fork')
    join_group('pytorch', gpu, timeout=86_400)
    assert called['timeout'] == timedelta(days=1) and called.get('gpu') == (1 if gpu else None)
    assert 'gloo' in (*called['args'], called.get('backend'))
