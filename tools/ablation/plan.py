# SPDX-License-Identifier: Apache-2.0
"""Rows of ablation tables, the trainings and tests that fill them, and which of these are done."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from mmengine.config import Config, DictAction

from ovavss_mm.engine.launch import base_of, iter_datasets, load_config
from ovavss_mm.utils.files import last_checkpoint, write_atomic

UNTRAINED = 'none'  # as `train` of a row
DEFAULT_BASE = 'avsbench-ov'  # of rows with one config a base, where the base is the user's own
NUMBERS = ('base', 'novel', 'harmonic', 'mIoU', 'total_mib', 'trainable_mib')


class Status(NamedTuple):
    """How a job stands: 'done' with results, 'failed' with reason and what to look at, or 'open'."""

    state: str
    results: Mapping[str, Any] = {}
    reason: str = ''
    where: Path | None = None


@dataclass(frozen=True)
class Job:
    """A training, or a test with the training of its model, if that is trained.

    ``base`` is what the config is put on, ``folder`` that of log, results and state. ``digest``
    changes with anything that the results depend on; ``fault`` says why it cannot be run; ``options``
    are ``KEY=VALUE`` for this test alone; ``given`` is the checkpoint of a test, if it was given.
    """

    kind: str  # 'train' or 'test'
    config: Path
    base: Path | None
    seed: int
    folder: Path
    digest: str
    training: 'Job | None'
    fault: str
    options: tuple[str, ...] = ()
    given: Path | None = None

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.folder / f'{self.kind}.log'

    @property
    def checkpoint(self) -> Path:
        """Last checkpoint of a training that is done."""
        return self.folder / self.status().results['checkpoint']

    def __str__(self) -> str:
        return f'{self.kind} {" ".join([self.config.stem, *last_keys(self.options)])}, seed {self.seed}'

    def status(self) -> Status:
        """Read how it stands; what was done with another config is neither used nor removed."""
        if self.fault:
            return Status('failed', reason=self.fault, where=self.config)
        path = self.folder / 'state.json'
        state = json.loads(path.read_text('utf-8')) if path.is_file() else {}
        if 'results' in state and state['digest'] == self.digest:
            return Status('done', state['results'])
        if 'results' in state:
            reason = f'the config has changed since; to do it again, remove {self.folder}'
            return Status('failed', reason=reason, where=self.folder)
        training = self.training.status() if self.training else Status('open')
        if training.state == 'failed':
            return training._replace(reason=f'its training failed: {training.reason}')
        if training.state == 'done' and not self.training.checkpoint.is_file():
            reason = f'{self.training.checkpoint} is gone; to train again, remove its folder'
            return Status('failed', reason=reason, where=self.training.folder)
        if 'reason' in state:
            return Status('failed', reason=state['reason'], where=self.log)
        return Status('open')

    def save(self, **state: Any) -> None:
        """Write its ``results``, or the ``reason`` of its failure."""
        write_atomic(self.folder / 'state.json', json.dumps(dict(state, digest=self.digest)))

    def collect(self, seconds: float) -> dict[str, Any]:
        """Read what it left; the seconds of a training are its iterations', over all attempts."""
        if self.kind == 'train':
            checkpoint = last_checkpoint(self.folder)
            if not checkpoint or not Path(checkpoint).is_file():
                raise FileNotFoundError(f'the training left no checkpoint in {self.folder}')
            logs = sorted(self.folder.glob('*/vis_data/scalars.json'))
            lines = [line for log in logs for line in log.read_text('utf-8').splitlines()]
            entries = [json.loads(line) for line in lines if line.endswith('}')]  # a kill cuts off
            times = {entry['iter']: entry['time'] for entry in entries if 'iter' in entry}
            took = sum(times.values()) / len(times) * max(times) if times else None
            return dict(checkpoint=Path(checkpoint).name, seconds=took)
        files = [p for p in self.folder.glob('*/*.json') if p.stem == p.parent.name]
        if not files:
            raise FileNotFoundError(f'the test left no figures in {self.folder}')
        text = max(files).read_text('utf-8')  # folders are named after the time
        return dict(figures=json.loads(text), seconds=seconds)


class Row(NamedTuple):
    """Row of a table: the paper's numbers and, unless there is no such model here, a test a seed."""

    suite: str
    name: str
    published: Mapping[str, float]
    config: Path | None
    tests: Mapping[int, Job]
    chosen: bool  # to be run
    against: str | None = None  # row of which differences are shown; None: the suite's first


class Plan:
    """All rows of some suites and the jobs that fill them; rows that need the same model share it.

    ``base`` is a name or the path of a config, ``options`` are ``KEY=VALUE`` for all configs. With the ``checkpoint``
    of a model of the base only rows that test such a model are filled, and nothing is trained.
    """

    def __init__(
        self,
        configs: Path,
        suites: Sequence[str],
        base: str,
        seeds: Sequence[int] = (0,),
        out: Path | None = None,
        rows: Sequence[str] | None = None,
        options: Sequence[str] = (),
        checkpoint: Path | None = None,
    ) -> None:
        self.configs = configs.resolve()
        bases, catalogue = read_suites(self.configs / 'ablations/suites.yml')
        self.base, self.base_config, self.data = self._base(base, bases)
        self.checkpoint = checkpoint
        if checkpoint and not checkpoint.is_file():
            raise FileNotFoundError(f'there is no checkpoint {checkpoint}')
        given = f'{checkpoint.resolve().parent.name}_{checkpoint.stem}' if checkpoint else ''
        self.out = out or Path('work_dirs', 'ablate', self.base, given)
        self.seeds, self.options = list(dict.fromkeys(seeds)), list(options)
        chosen = list(catalogue) if 'all' in suites else dict.fromkeys(suites)
        if unknown := [name for name in chosen if name not in catalogue]:
            raise ValueError(f'unknown suite {unknown[0]!r}; there are {", ".join(catalogue)}, all')
        self.titles = {name: catalogue[name]['title'] for name in chosen}
        given = {name: catalogue[name].get('options', {}) for name in chosen}  # to all rows of a suite
        entries = [
            (name, entry | dict(options=given[name] | entry.get('options', {})))
            for name in chosen
            for entry in catalogue[name]['rows']
        ]
        names = list(dict.fromkeys(entry['name'] for _, entry in entries))
        if unknown := [name for name in rows or () if name not in names]:
            listed = '\n  '.join(names)
            raise ValueError(f'unknown row {unknown[0]!r}; {", ".join(chosen)} have\n  {listed}')
        self.read: dict[Path, Config | str] = {}  # a text says why one cannot be read
        self._jobs: dict[tuple, Job] = {}
        if isinstance(self._read(self.base_config), str):
            raise ValueError(self._read(self.base_config))
        self.rows = [self._row(s, entry, rows) for s, entry in entries]
        stems = [path.stem for path in self.read]
        if twice := [path for path in self.read if stems.count(path.stem) > 1]:
            raise ValueError(f'two configs have one name: rename {twice[0]} or {twice[1]}')
        groups: dict[Job, dict[Job, None]] = {}  # rows are finished early: a training, its tests
        for test in [test for row in self.rows if row.chosen for test in row.tests.values()]:
            groups.setdefault(test.training or test, {})[test] = None
        self.jobs = [job for first, tests in groups.items() for job in dict.fromkeys((first, *tests))]

    def users(self, job: Job) -> list[Row]:
        """Find the rows that need a job."""
        return [r for r in self.rows if any(job in (t, t.training) for t in r.tests.values())]

    def _base(self, name: str, bases: Mapping[str, Any]) -> tuple[str, Path, str]:
        """Find name, config and words for the data of a base."""
        if name in bases:
            return name, self.configs / f'{bases[name]["config"]}.py', bases[name]['data']
        path = Path(name)
        if path.suffix == '.py' and path.is_file():
            return path.stem, path.resolve(), path.stem
        raise ValueError(f'unknown base {name!r}: no config (.py) and none of {", ".join(bases)}')

    def _row(self, suite: str, entry: Mapping[str, Any], chosen: Sequence[str] | None) -> Row:
        """Make the jobs of a row."""
        name, config, tests = entry['name'], None, {}
        if 'config' in entry:
            where = f'suite {suite!r}, row {name!r}'
            config = self._file(entry['config'], where)
            options = tuple(f'{key}={value}' for key, value in entry['options'].items())
            untrained = entry.get('train') == UNTRAINED  # no seed changes anything
            train = None if untrained else self._file(entry.get('train', entry['config']), where)
            if self.checkpoint and train == self.base_config:
                tests = {self.seeds[0]: self._job('test', config, self.seeds[0], None, options, self.checkpoint)}
                name = self.base_config.stem if config == train else name  # whatever model the suite has there
            elif untrained and not self.checkpoint:
                tests = {self.seeds[0]: self._job('test', config, self.seeds[0], None, options)}
            elif not self.checkpoint:
                tests = {seed: self._job('test', config, seed, train, options) for seed in self.seeds}
        is_chosen = chosen is None or name in chosen
        return Row(suite, name, entry.get('published', {}), config, tests, is_chosen, entry.get('against'))

    def _file(self, entry: str | Mapping[str, str], where: str) -> Path:
        """Find the config that a row names: 'base', a path, or one path a base."""
        if isinstance(entry, Mapping):
            entry = entry.get(self.base, entry.get(DEFAULT_BASE))
        path = self.base_config if entry == 'base' else self.configs / f'{entry}.py'
        if not path.is_file():
            raise ValueError(f'{where}: there is no config {path}')
        return path

    def _job(
        self,
        kind: str,
        config: Path,
        seed: int,
        train: Path | None = None,
        options: tuple[str, ...] = (),
        given: Path | None = None,
    ) -> Job:
        """Make a training, or the test of a model that is trained with a config, given, or neither; each once."""
        key = (kind, config, seed, train, options, given)
        if key not in self._jobs:
            training = self._job('train', train, seed) if train else None
            read, is_test = self._read(config), kind == 'test'
            read = self._load(config, options) if options else read
            fault = read if isinstance(read, str) else self._other_data(read) if is_test else ''
            text = '' if fault else json.dumps(read.to_dict(), sort_keys=True, default=str)
            parts = (text.replace(str(self.configs), 'configs'), seed, training and training.digest)
            parts += (str(given.resolve()), given.stat().st_mtime_ns) if given else ()
            digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
            folder = self.out / (train or config).stem / f'seed{seed}'
            folder = folder / ('_'.join(['test', config.stem, *last_keys(options)]) if is_test else 'train')
            base = None if fault else self._on(config)
            self._jobs[key] = Job(kind, config, base, seed, folder, digest, training, fault, options, given)
        return self._jobs[key]

    def _on(self, config: Path) -> Path | None:
        """Choose what a config is put on; complete configs stay as they are."""
        return self.base_config if config != self.base_config and base_of(str(config)) else None

    def _read(self, path: Path) -> Config | str:
        """Read a config as its jobs will, once."""
        if path not in self.read:
            self.read[path] = self._load(path)
        return self.read[path]

    def _load(self, path: Path, more: Sequence[str] = ()) -> Config | str:
        """Read a config, with ``more`` options for it alone."""
        pairs = [option.split('=', 1) for option in (*self.options, *more)]
        options = {key: DictAction._parse_iterable(value) for key, value in pairs}
        try:
            base = self._on(path) and str(self._on(path))
            return load_config(str(path), '', cfg_options=options, base=base)
        except Exception as error:  # a config is a program: other rows can still be run
            return f'{path} cannot be read: {type(error).__name__}: {error}'

    def _other_data(self, config: Config) -> str:
        """Say if a test reads other data than the base: they must not stand in one table."""
        both = [c.get('test_dataloader') for c in (config, self._read(self.base_config))]
        ours, base = ({str(data['data_root']) for data in iter_datasets(c)} for c in both)
        return f'it is tested on {ours}, but the base on {base}' if ours != base else ''


def last_keys(options: Sequence[str]) -> list[str]:
    """Options with the last part of their keys alone."""
    return [re.sub(r'^[^=]*\.', '', option) for option in options]


def read_suites(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read bases and suites, and check keys, names and numbers of rows."""
    content = yaml.safe_load(path.read_text('utf-8'))
    if not isinstance(content, dict) or set(content) != {'bases', 'suites'}:
        raise ValueError(f'{path} must have the keys bases and suites')
    for name, suite in content['suites'].items():
        names = [row.get('name') for row in suite['rows']]
        for row in suite['rows']:
            where, published = (f'{path}: suite {name!r}, row {row.get("name")!r}', row.get('published'))
            known = ('name', 'config', 'train', 'options', 'against', 'published', *NUMBERS)
            if wrong := [key for key in (*row, *(published or ())) if key not in known]:
                raise ValueError(f'{where}: unknown key {wrong[0]!r}; there are {", ".join(known)}')
            if names.count(row.get('name')) > 1 or not row.get('name'):
                raise ValueError(f'{where}: each row needs a name of its own')
            if row.get('against', names[0]) not in names:
                raise ValueError(f'{where}: against must be a row of the suite, got {row["against"]!r}')
            if not all(isinstance(value, (int, float)) for value in (published or {}).values()):
                raise ValueError(f'{where}: published are numbers, got {published}')
    return content['bases'], content['suites']
