# SPDX-License-Identifier: Apache-2.0
"""Suites of ablations as a file describes them: which rows a table has, and their configs."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

DEFAULT_BASE = 'avsbench-ov'  # whose configs serve under a base that no mapping names
BASE_WORD = 'base'  # stands for the base's own config
NUMBERS = ('base', 'novel', 'harmonic', 'total_mib', 'trainable_mib')


class Base(NamedTuple):
    """What the rows are deltas on.

    Attributes:
        name: of the file, or the stem of a config that the user chose.
        config: absolute path of its config.
        data: words for the data that it runs on.
        variable: what ``OVAVSS_BASE`` must be: path relative to the folder of configs, without ``.py``.
    """

    name: str
    config: Path
    data: str
    variable: str


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: unique in its suite.
        config: path below the folder of configs without ``.py``, ``'base'``, or one such path a base.
        train: of the config whose trained model is tested.
        published: numbers of the paper, by name of :data:`NUMBERS`.
    """

    name: str
    config: str | Mapping[str, str]
    train: str | Mapping[str, str]
    published: Mapping[str, float] = field(default_factory=dict)


class Suite(NamedTuple):
    """A table.

    Attributes:
        name: of the file.
        title: of the table.
        rows: in order.
    """

    name: str
    title: str
    rows: tuple[Row, ...]


class Catalogue:
    """All suites and bases of a file, checked.

    Args:
        path: of the file, YAML.
        configs: folder that its paths are below.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: something in it is wrong; the message says where.
    """

    def __init__(self, path: Path, configs: Path) -> None:
        self.path = path
        self.configs = configs.resolve()
        content = self._keys(_read(path), 'the file', ('bases', 'suites'))
        self.bases = {
            str(name): self._base(str(name), entry) for name, entry in self._entries(content['bases'], 'bases')
        }
        self.suites = {
            str(name): self._suite(str(name), entry) for name, entry in self._entries(content['suites'], 'suites')
        }

    # -------------------------------------------------------------- choosing
    def base(self, name: str) -> Base:
        """A base by its name, or by the path of a config.

        Raises:
            ValueError: it is neither; the message lists the known ones.
        """
        if name in self.bases:
            return self.bases[name]
        path = Path(name)
        if path.suffix == '.py' and path.is_file():
            return self._own_base(path.resolve())
        raise ValueError(
            f'unknown base {name!r}: neither the path of a config (.py) nor one of {", ".join(self.bases)}'
        )

    def choose(self, names: Sequence[str]) -> list[Suite]:
        """Suites by name, each once; ``'all'`` are all.

        Raises:
            ValueError: an unknown one; the message lists the known ones.
        """
        for name in names:
            if name != 'all' and name not in self.suites:
                raise ValueError(f'unknown suite {name!r}; there are {", ".join(self.suites)}, all')
        wanted = list(self.suites) if 'all' in names else dict.fromkeys(names)
        return [self.suites[name] for name in wanted]

    def config_of(self, entry: str | Mapping[str, str], base: Base) -> Path:
        """Absolute path of the config that a row's ``config`` or ``train`` means under a base."""
        if isinstance(entry, Mapping):
            entry = entry[base.name if base.name in entry else DEFAULT_BASE]
        return base.config if entry == BASE_WORD else self._file(entry)

    # -------------------------------------------------------------- reading
    def _own_base(self, path: Path) -> Base:
        """The base that a user's config is."""
        variable = Path(os.path.relpath(path, self.configs)).with_suffix('').as_posix()
        return Base(path.stem, path, path.stem, variable)

    def _base(self, name: str, entry: Any) -> Base:
        """Check a base."""
        where = f'base {name!r}'
        self._keys(entry, where, ('config', 'data'))
        self._check_path(entry['config'], where)
        return Base(name, self._file(entry['config']), str(entry['data']), entry['config'])

    def _suite(self, name: str, entry: Any) -> Suite:
        """Check a suite."""
        where = f'suite {name!r}'
        self._keys(entry, where, ('rows',), ('title',))
        if name == 'all' or '/' in name:
            raise self._error(where, 'a suite cannot have this name')
        if not isinstance(entry['rows'], list) or not entry['rows']:
            raise self._error(where, 'rows must be a list with at least one row')
        rows = tuple(self._row(where, row) for row in entry['rows'])
        names = [row.name for row in rows]
        for row in names:
            if names.count(row) > 1:
                raise self._error(where, f'row {row!r} occurs {names.count(row)} times')
        return Suite(name, str(entry.get('title', name)), rows)

    def _row(self, suite: str, entry: Any) -> Row:
        """Check a row."""
        name = str(entry['name']) if isinstance(entry, Mapping) and 'name' in entry else None
        where = suite if name is None else f'{suite}, row {name!r}'
        self._keys(entry, where, ('name', 'config'), ('train', 'published'))
        for key in ('config', 'train'):
            self._check_entry(entry.get(key, BASE_WORD), f'{where}, {key}')
        published = entry.get('published', {})
        self._keys(published, f'{where}, published', (), NUMBERS)
        for key, value in published.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise self._error(where, f'published {key} must be a number, got {value!r}')
        return Row(name, entry['config'], entry.get('train', entry['config']), published)

    def _check_entry(self, entry: Any, where: str) -> None:
        """Check what ``config`` or ``train`` is."""
        if isinstance(entry, Mapping):
            self._keys(entry, where, tuple(self.bases))
            if DEFAULT_BASE not in entry:
                raise self._error(where, f'one path a base needs the base {DEFAULT_BASE!r}')
        for path in entry.values() if isinstance(entry, Mapping) else [entry]:
            if path != BASE_WORD:
                self._check_path(path, where)

    def _check_path(self, path: Any, where: str) -> None:
        """Check that a config is there."""
        if not isinstance(path, str):
            raise self._error(where, f'a path must be a text, got {path!r}')
        if not self._file(path).is_file():
            raise self._error(where, f'there is no config {self._file(path)}')

    def _file(self, path: str) -> Path:
        """Where a config is."""
        return self.configs / f'{path}.py'

    def _entries(self, content: Any, where: str) -> Any:
        """Names and entries of a mapping that must not be empty."""
        if not isinstance(content, Mapping) or not content:
            raise self._error(where, 'must have at least one name, with what belongs to it below')
        return content.items()

    def _keys(self, entry: Any, where: str, needed: tuple[str, ...], allowed: tuple[str, ...] = ()) -> Any:
        """Check the keys of a mapping."""
        known = (*needed, *allowed)
        if not isinstance(entry, Mapping):
            raise self._error(where, f'must have the keys {", ".join(known)}, got {entry!r}')
        for key in entry:
            if key not in known:
                raise self._error(where, f'unknown key {key!r}; there are {", ".join(known)}')
        for key in needed:
            if key not in entry:
                raise self._error(where, f'{key!r} is missing')
        return entry

    def _error(self, where: str, what: str) -> ValueError:
        """An error that says where."""
        return ValueError(f'{self.path}: {where}: {what}')


def _read(path: Path) -> Any:
    """Content of a YAML file."""
    if not path.is_file():
        raise FileNotFoundError(f'there are no suites at {path}')
    try:
        return yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'{path} is no YAML file: {error}') from error
