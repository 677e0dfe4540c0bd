# SPDX-License-Identifier: Apache-2.0
"""A training that was ended goes on as if it had not been."""

import random
import shutil
from pathlib import Path

import kill_training
import pytest
import small_training

ITERATIONS, START = 12, 8


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory) -> Path:
    """Folder of an undisturbed run, with its config and all its checkpoints."""
    folder = tmp_path_factory.mktemp('resumed')
    config = small_training.write_config(folder, ITERATIONS, default_hooks__checkpoint__max_keep_ckpts=-1)
    finish(config, folder / 'run')
    return folder


def finish(config: Path, work_dir: Path, *args: str, processes: int = 1) -> str:
    """Train to the end; what was printed."""
    return small_training.Training(config, work_dir, *args, processes=processes).finish()


def copy_checkpoint(source: Path, work_dir: Path) -> None:
    """Have a work directory from which a training goes on."""
    work_dir.mkdir()
    shutil.copy(source, work_dir)
    (work_dir / 'last_checkpoint').write_text(str(work_dir / source.name))


@pytest.mark.parametrize('workers', [0, 2], ids=['no_workers', 'two_workers'])
def test_losses_after_resuming_are_the_same_bits(undisturbed, workers):
    """With dropout, random sizes and flips, and a validation that draws; whatever the workers."""
    work_dir = undisturbed / f'workers_{workers}'
    copy_checkpoint(undisturbed / 'run/iter_8.pth', work_dir)
    finish(undisturbed / 'small.py', work_dir, '--resume', '--cfg-options', f'train_dataloader.num_workers={workers}')
    whole = small_training.losses(undisturbed / 'run')
    assert len({min(v) for v in whole.values()}) == ITERATIONS
    assert small_training.losses(work_dir) == {i: whole[i] for i in range(START + 1, ITERATIONS + 1)}
    assert small_training.same(undisturbed / 'run/iter_12.pth', work_dir / 'iter_12.pth')


def test_each_process_goes_on_with_its_random_numbers(undisturbed):
    """Two processes, with dropout; one alone says that it cannot go on like them."""
    config, run, again = (undisturbed / name for name in ('small.py', 'both', 'both_again'))
    finish(config, run, '--cfg-options', 'train_cfg.max_iters=6', processes=2)
    copy_checkpoint(run / 'iter_4.pth', again)
    finish(config, again, '--resume', '--cfg-options', 'train_cfg.max_iters=6', processes=2)
    whole = small_training.losses(run)
    assert small_training.losses(again) == {i: whole[i] for i in (5, 6)}
    assert all(len(found) == 2 for found in whole.values()), 'each process has its own clips'
    assert small_training.same(run / 'iter_6.pth', again / 'iter_6.pth')
    printed = finish(config, run, '--resume', '--cfg-options', 'train_cfg.max_iters=7')
    assert 'the checkpoint is of 2 processes, these are 1' in printed


def test_equal_seeds_give_equal_checkpoints(undisturbed):
    """With --deterministic; the undisturbed run had another seed, and is not the same."""
    one, two = undisturbed / 'one', undisturbed / 'two'
    for folder in (one, two):
        output = finish(
            undisturbed / 'small.py',
            folder,
            '--deterministic',
            '--cfg-options',
            'randomness.seed=3',
            'train_cfg.max_iters=2',
        )
        assert 'deterministic: True' in output
    assert small_training.same(one / 'iter_2.pth', two / 'iter_2.pth')
    assert not small_training.same(one / 'iter_2.pth', undisturbed / 'run/iter_2.pth')


def test_killed_at_random_moments(undisturbed):
    """All files are whole after each kill, and the end is that of the undisturbed run."""
    config, work_dir = undisturbed / 'small.py', undisturbed / 'killed'
    counts = kill_training.kill_and_resume(config, work_dir, ITERATIONS, 3, random.Random(0), 0.4)
    assert counts['kills'] == 3 and counts['in_write'] >= 1
    last = f'iter_{ITERATIONS}.pth'
    assert small_training.same(undisturbed / 'run' / last, work_dir / last)
    assert small_training.losses(work_dir) == small_training.losses(undisturbed / 'run')
