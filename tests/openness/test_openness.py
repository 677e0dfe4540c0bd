# SPDX-License-Identifier: Apache-2.0
"""Components from outside the package, one for each stage, trained, tested and used on a video.

One goes through mim, in processes of its own; the others through the scripts that mim runs, in this process.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope
from published import load_tool

from ovavss_mm.apis import AVSegInferencer

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONFIGS = sorted(path for path in HERE.glob('open_*.py') if path.stem != 'open_base')
THROUGH_MIM = 'open_audio-encoder'
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
    sizes = ('--train', '8', '--val', '2', '--test', '2', '--workers', '1')
    load_tool('dataset_converters/mini_world.py').main(['--out', str(folder), *sizes])
    return folder


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process as the scripts need it; what they change in it is undone."""
    monkeypatch.syspath_prepend(HERE)
    for name, value in dict(LOCAL_RANK='0', GOMP_SPINCOUNT='10000').items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr('ovavss_mm.engine.launch.keep_freed_memory', lambda: None)
    monkeypatch.setattr(DefaultScope, '_instance_dict', DefaultScope._instance_dict.copy())


def train_and_test(config: Path, options: list[str], work_dir: Path, capsys: pytest.CaptureFixture) -> str:
    """Train, then test the checkpoint of the second iteration; gives what the test printed."""
    checkpoint, test_dir = str(work_dir / 'iter_2.pth'), str(work_dir.with_name('test'))
    train = ['--work-dir', str(work_dir), '--cfg-options', *options]
    test = ['--work-dir', test_dir, '--cfg-options', *options]
    if config.stem == THROUGH_MIM:
        run('-m', 'mim', 'train', 'ovavss_mm', config, *train)
        return run('-m', 'mim', 'test', 'ovavss_mm', config, '--checkpoint', checkpoint, *test)
    # names of their own, or mmengine gives the second run the first one's logger and visualizer
    names = [[f'{key}={config.stem}_{kind}' for key in ('experiment_name', 'visualizer.name')] for kind in 'ab']
    load_tool('train.py').main([str(config), *train, *names[0]])
    capsys.readouterr()
    load_tool('test.py').main([str(config), checkpoint, *test, *names[1]])
    return capsys.readouterr().out


@pytest.mark.usefixtures('here')
@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: path.stem.removeprefix('open_'))
def test_a_component_from_outside(
    config: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(config.read_text().splitlines()) <= 20
    options = [f'{loader}_dataloader.dataset.data_root={world}' for loader in ('train', 'test')]
    assert 'Harmonic' in train_and_test(config, options, tmp_path / 'work', capsys)
    checkpoint = tmp_path / 'work/iter_2.pth'
    (clip,) = sorted((world / 'v2').iterdir())[:1]
    inferencer = AVSegInferencer(str(config), str(checkpoint), device='cpu', show_progress=False)
    (result,) = inferencer(str(clip), classes=inferencer.own_names or ['red-star', 'blue-square'])['predictions']
    assert result['num_frames'] == len(list((clip / 'frames').iterdir()))


def test_there_is_one_for_each_stage() -> None:
    assert THROUGH_MIM in {path.stem for path in CONFIGS}
    assert {path.stem.removeprefix('open_') for path in CONFIGS} == {
        *('audio-encoder', 'fusion', 'dense-head', 'query-head', 'tracker', 'classifier', 'namer')
    }
