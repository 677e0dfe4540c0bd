# SPDX-License-Identifier: Apache-2.0
"""A folder of tiny configs with suites, and a command that stands for mim."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FAKE = Path(__file__).with_name('fake_mim.py')
DELTA = "_base_ = ['../{{$OVAVSS_BASE:big/big}}.py']\n"
SUITES = """
bases:
  mini: {config: small/small, data: toys}
  avsbench-ov: {config: big/big, data: AVSBench-OV}
suites:
  fusion:
    title: Fusion
    rows:
      - {name: none, config: ablations/none, published: {base: 60, novel: 30}}
      - {name: own, config: base, published: {total_mib: 99.9}}
      - {name: large, config: {mini: small/large_mini, avsbench-ov: big/large}}
  sound_test:
    rows:
      - {name: own, config: base}
      - {name: silence, config: ablations/silence, train: base}
"""


class World:
    """Configs, suites and fake mim in a folder.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.configs, self.out = root, root / 'configs', root / 'out'
        self.control = root / 'control'
        self.control.mkdir()
        model = "dict(type='FCNHead', in_channels=64, channels=64, num_classes=3)"
        for name in ('small/small', 'big/big', 'small/large_mini', 'big/large'):
            self.config(
                name,
                f'name = {name!r}\nmodel = {model}\ntrain_cfg = dict(max_iters=10)\n'
                f"test_dataloader = dict(dataset=dict(data_root='data/{name.split('/')[0]}'))\n",
            )
        self.config('ablations/none', DELTA + 'model = dict(channels=128)\n')
        self.config('ablations/silence', DELTA + 'extra = 1\n')
        self.suites(SUITES)

    def config(self, name: str, text: str) -> Path:
        """Write a config."""
        path = self.configs / f'{name}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def suites(self, text: str) -> None:
        """Write the file of suites."""
        (self.configs / 'ablations').mkdir(parents=True, exist_ok=True)
        (self.configs / 'ablations/suites.yml').write_text(text)

    def set(self, name: str, *stems: str) -> None:
        """Have trainings of these configs ``fail``, or ``wait`` before their sixth iteration."""
        (self.control / name).write_text(' '.join(stems))

    @property
    def calls(self) -> list[dict]:
        """What fake mim was called for, in order."""
        path = self.control / 'calls'
        lines = path.read_text().splitlines() if path.is_file() else []
        return [json.loads(line) for line in lines]

    @property
    def jobs(self) -> list[tuple]:
        """Kind, stem and seed of the calls."""
        return [(call['kind'], call['stem'], call['seed']) for call in self.calls]

    def script(self, *args: object) -> list[str]:
        """A command that runs the tool with fake mim, in a process of its own."""
        tool = Path(__file__).parents[3] / 'tools'
        code = (
            f'import sys; sys.path.insert(0, {str(tool)!r}); import ablate; from pathlib import Path; '
            f'ablate.main({[str(arg) for arg in args]!r}, Path({str(self.configs)!r}), '
            f'{[sys.executable, str(FAKE)]!r}, [])'
        )
        return [sys.executable, '-c', code]

    def popen(self, *args: object) -> subprocess.Popen:
        """Start the tool."""
        environ = dict(os.environ, FAKE_MIM=str(self.control))
        return subprocess.Popen(
            self.script(*args), env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait_for(self, *job: object) -> None:
        """Wait until fake mim is called for a job."""
        end = time.monotonic() + 120
        while tuple(job) not in self.jobs:
            assert time.monotonic() < end, self.jobs
            time.sleep(0.02)

    def kill_leftovers(self, process: subprocess.Popen) -> None:
        """Kill a process of the tool, not what it started."""
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Configs, suites and fake mim; the environment leads there."""
    world = World(tmp_path)
    monkeypatch.setenv('FAKE_MIM', str(world.control))
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    return world
