# SPDX-License-Identifier: Apache-2.0
"""A folder of tiny configs with suites, and a command that stands for mim."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / 'tools'))  # not first: it has a `test`

from ablation.plan import Plan  # noqa: E402

MIM = [sys.executable, str(Path(__file__).with_name('fake_mim.py'))]
SUITES = """
bases:
  mini: {config: small/small, data: toys}
  avsbench-ov: {config: big/big, data: AVSBench-OV}
suites:
  fusion:
    title: Fusion
    rows:
      - {name: none, config: rows/none, published: {base: 60, novel: 30, total_mib: 99.9}}
      - {name: own, config: base}
      - {name: large, config: {mini: small/large_mini, avsbench-ov: big/large}}
      - {name: elsewhere, published: {base: 12.34}}
  sound_test:
    title: Sound
    rows:
      - {name: own, config: base}
      - {name: silence, config: rows/silence, train: base}
"""


class World:
    """Configs, suites and fake mim in a folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.configs, self.out = root, root / 'configs', root / 'out'
        self.control = root / 'control'
        self.control.mkdir()
        model = "dict(type='FCNHead', in_channels=64, channels=64, num_classes=3)"
        for name in ('small/small', 'big/big', 'small/large_mini', 'big/large'):
            data = f"dict(dataset=dict(data_root='data/{name.split('/')[0]}'))"
            self.config(name, f'name = {name!r}\nmodel = {model}\ntest_dataloader = {data}\n')
        for name, text in (('none', 'model = dict(channels=128)'), ('silence', 'extra = 1')):
            self.config(f'rows/{name}', f"_base_ = ['../big/big.py']\n{text}\n")
        self.suites(SUITES)

    def config(self, name: str, text: str) -> Path:
        """Write a config."""
        path = self.configs / f'{name}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def suites(self, text: str) -> None:
        """Write the file of suites."""
        (self.configs / 'ablations').mkdir(exist_ok=True)
        (self.configs / 'ablations/suites.yml').write_text(text)

    def plan(self, *suites: str, base: str = 'mini', out: Path | None = None, **kwargs) -> Plan:
        """Plan suites of a test."""
        return Plan(self.configs, suites or ['all'], base, out=out or self.out, **kwargs)

    def set(self, name: str, *stems: str) -> None:
        """Have trainings of these configs ``fail``, or ``wait`` before their sixth iteration."""
        (self.control / name).write_text(' '.join(stems))

    @property
    def calls(self) -> list[dict]:
        """What fake mim was called for, in order."""
        path = self.control / 'calls'
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def jobs(self) -> list[tuple]:
        """Kind, stem and seed of the calls."""
        return [(call['kind'], call['stem'], call['seed']) for call in self.calls]

    def start(self, *suites: str) -> subprocess.Popen:
        """Start the tool with fake mim, in a process of its own."""
        args = ['--suite', *suites, '--base', 'mini', '--out', str(self.out)]
        code = (
            f'import sys; sys.path.append({str(ROOT / "tools")!r}); import ablate; '
            f'from pathlib import Path; ablate.main({args!r}, Path({str(self.configs)!r}), {MIM!r}, [])'
        )
        environ = dict(os.environ, FAKE_MIM=str(self.control))
        streams = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return subprocess.Popen([sys.executable, '-c', code], env=environ, **streams)

    def wait_for(self, *job: object) -> None:
        """Wait until fake mim is called for a job."""
        end = time.monotonic() + 120
        while tuple(job) not in self.jobs:
            assert time.monotonic() < end, self.jobs
            time.sleep(0.02)
