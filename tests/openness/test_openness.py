# SPDX-License-Identifier: Apache-2.0
"""Components from outside the package, one for each stage, trained, tested through mim and used on a video."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ovavss_mm.apis import AVSegInferencer

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONFIGS = sorted(path for path in HERE.glob('open_*.py') if path.stem != 'open_base')
ENV = os.environ | dict(PYTHONPATH=str(HERE), OMP_NUM_THREADS='1')


def run(*command: object) -> str:
    """Run a command from the checkout; gives what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=ENV,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope='module')
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mini world of a few clips."""
    folder = tmp_path_factory.mktemp('openness') / 'mini'
    run('tools/dataset_converters/mini_world.py', '--out', folder, '--train', 8, '--val', 2, '--test', 2)
    return folder


@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: path.stem.removeprefix('open_'))
def test_a_component_from_outside(config: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(config.read_text().splitlines()) <= 20
    options = [f'{loader}_dataloader.dataset.data_root={world}' for loader in ('train', 'test')]
    work_dir = tmp_path / 'work'
    run('-m', 'mim', 'train', 'ovavss_mm', config, '--work-dir', work_dir, '--cfg-options', *options)
    checkpoint = work_dir / 'iter_2.pth'
    assert checkpoint.is_file()
    test = ('--checkpoint', checkpoint, '--work-dir', tmp_path / 'test', '--cfg-options', *options)
    printed = run('-m', 'mim', 'test', 'ovavss_mm', config, *test)
    assert 'Harmonic' in printed
    (clip,) = sorted((world / 'v2').iterdir())[:1]
    monkeypatch.syspath_prepend(HERE)
    inferencer = AVSegInferencer(str(config), str(checkpoint), device='cpu', show_progress=False)
    (result,) = inferencer(str(clip), classes=inferencer.own_names or ['red-star', 'blue-square'])['predictions']
    assert result['num_frames'] == len(list((clip / 'frames').iterdir()))


def test_there_is_one_for_each_stage() -> None:
    assert {path.stem.removeprefix('open_') for path in CONFIGS} == {
        *('audio-encoder', 'fusion', 'dense-head', 'query-head', 'tracker', 'classifier', 'namer')
    }
