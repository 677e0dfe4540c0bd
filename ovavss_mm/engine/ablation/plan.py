# SPDX-License-Identifier: Apache-2.0
"""What has to be trained and tested for some suites, each thing once."""

import hashlib
import json
import os
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger

from ..launch import iter_datasets
from .suites import Base, Catalogue, Row, Suite

VARIABLE = 'OVAVSS_BASE'  # in which the configs of rows look for their base


@dataclass(frozen=True)
class Resolved:
    """A config as a row runs it, options of the command line merged in.

    Attributes:
        text: all of it, the same on each machine.
        model: config of the model.
        iterations: of a training; None: it is not counted in iterations.
        data_roots: of the data sets that a test reads.
        fault: why it cannot be run; empty: it can.
    """

    text: str = ''
    model: dict = field(default_factory=dict)
    iterations: int | None = None
    data_roots: tuple[str, ...] = ()
    fault: str = ''


@dataclass(frozen=True)
class Job:
    """A training, or a test of its model.

    Attributes:
        config: that is trained or tested.
        seed: of all chance.
        folder: where its log, results and state go.
        digest: changes with anything that it depends on.
        iterations: of a training, if it is counted in them.
        training: whose model is tested; None: this is a training.
        fault: why it cannot be run; empty: it can.
    """

    config: Path
    seed: int
    folder: Path
    digest: str
    iterations: int | None = None
    training: 'Job | None' = None
    fault: str = ''

    @property
    def kind(self) -> str:
        """``'train'`` or ``'test'``."""
        return 'train' if self.training is None else 'test'

    @property
    def log(self) -> Path:
        """Where all goes that it prints."""
        return self.folder / f'{self.kind}.log'

    def __str__(self) -> str:
        return f'{self.kind} {self.config.stem}, seed {self.seed}'


class Entry(NamedTuple):
    """A row of a table with its jobs.

    Attributes:
        suite: that it is in.
        row: as the file has it.
        config: that is tested.
        train: that is trained.
        tests: seed to test.
        chosen: whether it is to be run; its results are shown in any case.
    """

    suite: Suite
    row: Row
    config: Path
    train: Path
    tests: dict[int, Job]
    chosen: bool


class Plan:
    """All rows of some suites and the jobs that fill them.

    A training serves all rows, of all suites, whose model it gives.

    Args:
        catalogue: of suites and bases.
        suites: the chosen ones.
        base: of all rows.
        seeds: of each row.
        out: folder of all results.
        rows: names of rows to run; None: all.
        options: ``KEY=VALUE`` for all trainings and tests.

    Raises:
        ValueError: unknown rows, options that cannot be merged, or two configs of one name.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        suites: Sequence[Suite],
        base: Base,
        seeds: Sequence[int],
        out: Path,
        rows: Sequence[str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.catalogue, self.base, self.out = catalogue, base, out
        self.suites = list(suites)
        self.seeds = list(dict.fromkeys(seeds))
        self.options = list(options)
        self._changes = parse_options(options)
        self._check_rows(rows)
        self.resolved: dict[Path, Resolved] = {}
        self._resolve(base.config)
        self._jobs: dict[tuple, Job] = {}
        self.entries = [
            self._entry(suite, row, rows is None or row.name in rows) for suite in suites for row in suite.rows
        ]
        self._check_names()
        self.jobs = self._order()

    @property
    def iterations(self) -> int | None:
        """Of a training of the base."""
        return self.resolved[self.base.config].iterations

    def count(self, kind: str) -> int:
        """How many jobs of a kind, ``'train'`` or ``'test'``, there are."""
        return sum(job.kind == kind for job in self.jobs)

    def users(self, job: Job) -> list[Entry]:
        """The rows that need a job."""
        return [entry for entry in self.entries if any(job in (test, test.training) for test in entry.tests.values())]

    def _check_rows(self, rows: Sequence[str] | None) -> None:
        """Check that rows to run are known."""
        known = dict.fromkeys(row.name for suite in self.suites for row in suite.rows)
        for name in rows or ():
            if name not in known:
                suites = ', '.join(suite.name for suite in self.suites)
                listed = '\n'.join(f'  {row}' for row in known)
                raise ValueError(f'unknown row {name!r}; the rows of {suites} are\n{listed}')

    def _check_names(self) -> None:
        """Check that folders, which are named after configs, do not meet."""
        stems: dict[str, Path] = {}
        for path in self.resolved:
            if stems.setdefault(path.stem, path) != path:
                raise ValueError(f'two configs have one name, {path} and {stems[path.stem]}: rename one')

    # -------------------------------------------------------------- jobs
    def _entry(self, suite: Suite, row: Row, chosen: bool) -> Entry:
        """A row with its jobs."""
        config = self.catalogue.config_of(row.config, self.base)
        train = self.catalogue.config_of(row.train, self.base)
        tests = {seed: self._test(config, train, seed) for seed in self.seeds}
        return Entry(suite, row, config, train, tests, chosen)

    def _training(self, config: Path, seed: int) -> Job:
        """The training of a config with a seed; there is one."""
        key = (config, seed)
        if key not in self._jobs:
            resolved = self._resolve(config)
            folder = self.out / config.stem / f'seed{seed}' / 'train'
            digest = digest_of(resolved.text, seed)
            self._jobs[key] = Job(config, seed, folder, digest, resolved.iterations, fault=resolved.fault)
        return self._jobs[key]

    def _test(self, config: Path, train: Path, seed: int) -> Job:
        """The test of a trained model; there is one."""
        key = (config, train, seed)
        if key not in self._jobs:
            training, resolved = self._training(train, seed), self._resolve(config)
            folder = training.folder.parent / f'test_{config.stem}'
            digest = digest_of(resolved.text, seed, training.digest)
            fault = resolved.fault or self._other_data(resolved)
            self._jobs[key] = Job(config, seed, folder, digest, training=training, fault=fault)
        return self._jobs[key]

    def _order(self) -> list[Job]:
        """The chosen rows' jobs, so that rows are finished early: a training, its tests, the next."""
        groups: dict[Job, dict[Job, None]] = {}
        for entry in self.entries:
            for test in entry.tests.values() if entry.chosen else ():
                groups.setdefault(test.training, {})[test] = None
        return [job for training, tests in groups.items() for job in (training, *tests)]

    # -------------------------------------------------------------- configs
    def _resolve(self, path: Path) -> Resolved:
        """Read a config as its jobs will, once."""
        if path not in self.resolved:
            try:
                with _environment(VARIABLE, self.base.variable), _quiet():
                    config = Config.fromfile(str(path))
            except Exception as error:  # a config is a program: whatever is wrong, other rows can run
                kind = type(error).__name__
                self.resolved[path] = Resolved(fault=f'{path} cannot be read: {kind}: {error}')
            else:
                self._merge(config, path)
                self.resolved[path] = self._content(config)
        return self.resolved[path]

    def _merge(self, config: Config, path: Path) -> None:
        """Merge the options of the command line."""
        try:
            config.merge_from_dict(self._changes)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f'--cfg-options do not fit {path}: {error}') from error

    def _content(self, config: Config) -> Resolved:
        """What is kept of a config."""
        text = json.dumps(config.to_dict(), sort_keys=True, default=str)
        train = config.get('train_cfg') or {}
        roots = (str(data['data_root']) for data in iter_datasets(config.get('test_dataloader')))
        return Resolved(
            text=text.replace(str(self.catalogue.configs), 'configs'),
            model=config.get('model') or {},
            iterations=train.get('max_iters'),
            data_roots=tuple(roots),
        )

    def _other_data(self, resolved: Resolved) -> str:
        """Say so if a test reads other data than the base: they must not stand in one table."""
        ours, base = resolved.data_roots, self.resolved[self.base.config].data_roots
        if not ours or not base or set(ours) == set(base):
            return ''
        return f'it is tested on {", ".join(ours)}, but the base on {", ".join(base)}'


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` as ``--cfg-options`` of training and testing does.

    Raises:
        ValueError: another form.
    """
    for option in options:
        if not option.partition('=')[0] or '=' not in option:
            raise ValueError(f'--cfg-options are KEY=VALUE, got {option!r}')
    parser = ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    return parser.parse_args(['--cfg-options', *options] if options else []).cfg_options


def digest_of(*parts: object) -> str:
    """Short digest of what a job depends on."""
    text = '\n'.join(map(str, parts))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep mmengine from telling, for each config, that it uses the variable."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        yield
    finally:
        logger.setLevel(level)
