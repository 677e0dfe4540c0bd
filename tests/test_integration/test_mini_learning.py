# SPDX-License-Identifier: Apache-2.0
"""A short training on a small mini world: the model learns to segment, name novel names, and listen.

The demo's full run reaches far higher figures; these bounds are what a few hundred iterations must show.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ITERATIONS = 200


def run(*args: object) -> str:
    """Run a tool of the project as a user does and return what it prints."""
    process = subprocess.run([sys.executable, *map(str, args)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout[-4000:] + process.stderr[-4000:]
    return process.stdout


def figures(work_dir: Path) -> dict[str, float]:
    """The figures of the last test in ``work_dir``, in percent."""
    (path,) = work_dir.glob('*/[0-9]*.json')  # not confusion.json
    return json.loads(path.read_text())


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small world and a checkpoint of a short training on it."""
    folder = tmp_path_factory.mktemp('learning')
    world = folder / 'mini'
    run('tools/dataset_converters/mini_world.py', '--out', world, '--train', 240, '--val', 4, '--test', 40)
    options = [
        f'train_dataloader.dataset.data_root={world}',
        f'train_cfg.max_iters={ITERATIONS}',
        f'param_scheduler.1.end={ITERATIONS}',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'val_dataloader=None',
        'val_cfg=None',
        'val_evaluator=None',
    ]
    run('tools/train.py', 'configs/mini/ovavss_mini.py', '--work-dir', folder / 'train', '--cfg-options', *options)
    return world, folder / 'train' / f'iter_{ITERATIONS}.pth'


def measure(world: Path, checkpoint: Path, config: str, work_dir: Path) -> dict[str, float]:
    """Test a checkpoint."""
    options = [
        f'test_dataloader.dataset.data_root={world}',
        'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False',
    ]
    run('tools/test.py', config, checkpoint, '--work-dir', work_dir, '--cfg-options', *options)
    return figures(work_dir)


def test_learns_names_and_listens(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """Base and novel names are found, and another clip's sound takes a third of it away or more."""
    right = measure(*trained, 'configs/mini/ovavss_mini.py', tmp_path / 'right')
    swapped = measure(*trained, 'configs/mini/ovavss_mini_swapped-sound.py', tmp_path / 'swapped')
    assert right['base_mIoU'] > 20  # of 20 names, chance is 5 at most
    assert right['novel_mIoU'] > 10
    assert swapped['harmonic_mIoU'] < right['harmonic_mIoU'] * 2 / 3
    assert (tmp_path / 'right' / 'contact_sheet.png').is_file()
