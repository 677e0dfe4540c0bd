# SPDX-License-Identifier: Apache-2.0
"""The names that pixels can have, and which of them are met in training."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .files import is_plain, read_utf8
from .palette import voc_palette

BACKGROUND = 'background'
# Lists of base names that come with the package.
PACKAGED_BASE_NAMES = {'avsbench_ov': Path(__file__).parent / 'avsbench_ov_base.txt'}
# The 70 names of AVSBench-semantic in the order of their labels.
PACKAGED_NAMES = Path(__file__).parent / 'avsbench_semantic_names.txt'
# Stands for 'every name is a base name', where base names are asked for.
ALL_NAMES = 'all'
_SHOWN, _LISTED = 300, 100  # letters of a value and names that a message has


@dataclass(frozen=True)
class Vocabulary:
    """N names; name i has label i + 1, label 0 is background.

    Args:
        names (tuple[str, ...]): all N names in the order of their labels, without background.
        base (tuple[str, ...]): the names seen in training, in the order of ``names``.
        novel (tuple[str, ...]): the names not seen in training, in the order of ``names``.

    Raises:
        ValueError: no names at all, a name given twice, background among them, a base or novel
            name that is not in the vocabulary, or a name both base and novel.
    """

    names: tuple[str, ...]
    base: tuple[str, ...]
    novel: tuple[str, ...]

    def __post_init__(self):
        if not self.names:
            raise ValueError('the vocabulary is empty: at least one name is needed')
        for title, group in (
            ('vocabulary', self.names),
            ('base', self.base),
            ('novel', self.novel),
        ):
            _check_names(title, group)
            missing = sorted(set(group) - set(self.names))
            if missing:
                raise ValueError(f'{title} names that are not in the vocabulary: {_join(missing)}')
        both = sorted(set(self.base) & set(self.novel))
        if both:
            raise ValueError(f'names that are both base and novel: {_join(both)}')

    @classmethod
    def create(
        cls, names: Iterable[str], base: Iterable[str], novel: Iterable[str] | None = None
    ) -> 'Vocabulary':
        """Make a vocabulary; base and novel names are brought into the order of ``names``.

        Args:
            names (Iterable[str]): all names in the order of their labels, without background.
            base (Iterable[str]): the names seen in training.
            novel (Iterable[str], optional): the names not seen in training. Defaults to all names
                that are not base.

        Raises:
            ValueError: see the class.
        """
        names, base = tuple(names), tuple(base)
        known = set(base)
        novel = tuple(n for n in names if n not in known) if novel is None else tuple(novel)
        order = {name: i for i, name in enumerate(names)}

        def in_order(group: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(sorted(group, key=lambda name: order.get(name, len(order))))

        return cls(names, in_order(base), in_order(novel))

    @classmethod
    def from_label2idx(
        cls,
        label2idx: Mapping[str, int],
        base: Iterable[str],
        novel: Iterable[str] | None = None,
    ) -> 'Vocabulary':
        """Make a vocabulary from a table of labels.

        Args:
            label2idx (Mapping[str, int]): ``background`` is 0, the names are 1 .. N without gaps.
            base (Iterable[str]): the names seen in training.
            novel (Iterable[str], optional): see :meth:`create`.

        Raises:
            ValueError: the table is not of that form, or see the class.
        """
        if not isinstance(label2idx, Mapping):
            raise ValueError(f'expected a table {{name: label}}, got a {type(label2idx).__name__}')
        wrong = {k: v for k, v in label2idx.items() if type(v) is not int}
        if wrong:
            raise ValueError(f'labels must be integers, got {_cut(wrong)}')
        if label2idx.get(BACKGROUND) != 0:
            raise ValueError(
                f'{BACKGROUND!r} must have label 0, got {_cut(label2idx.get(BACKGROUND, "none"))}'
            )
        ordered = sorted(label2idx, key=label2idx.__getitem__)
        for expected, name in enumerate(ordered):
            if label2idx[name] != expected:
                raise ValueError(
                    f'labels must be 0 to {len(ordered) - 1}, each once; {name!r} has '
                    f'{_cut(label2idx[name])} where {expected} was expected'
                )
        return cls.create(ordered[1:], base, novel)

    @classmethod
    def from_files(cls, label_file: str, base: str | Iterable[str]) -> 'Vocabulary':
        """Read a vocabulary.

        Args:
            label_file (str): JSON file with a table of labels, see :meth:`from_label2idx`.
            base (str | Iterable[str]): file with a base name a line, 'all', or the base names.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is malformed (the message names file and line), or see the class.
        """
        label2idx = read_label2idx(label_file)
        if base == ALL_NAMES:
            base = [name for name in label2idx if name != BACKGROUND]
        base_names = read_names(base) if isinstance(base, str) else base
        try:
            return cls.from_label2idx(label2idx, base_names)
        except ValueError as err:
            source = f' with base names of {base}' if isinstance(base, str) else ''
            raise ValueError(f'{label_file}{source}: {err}') from err

    @property
    def classes(self) -> tuple[str, ...]:
        """Background and all names: N + 1, the index is the label."""
        return (BACKGROUND, *self.names)

    @cached_property
    def palette(self) -> list[list[int]]:
        """PASCAL VOC colours of the N + 1 labels, rows [red, green, blue] of 0..255."""
        return voc_palette(len(self.names) + 1)

    def __len__(self) -> int:
        """N, the number of names without background."""
        return len(self.names)


def read_label2idx(path: str) -> dict[str, int]:
    """Read a JSON table of labels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not JSON (the message names the line), no table, or a name occurs twice or is
            not a line of text.
    """
    text = read_utf8(path)

    def unique(pairs: list[tuple]) -> dict:
        _check_names(f'{path}:', [name for name, _ in pairs], background=True)
        return dict(pairs)

    def number(digits: str) -> int:
        if len(digits) > 9:
            raise ValueError(f'{path}: labels must be small integers, got {digits[:20]}...')
        return int(digits)

    try:
        table = json.loads(text, object_pairs_hook=unique, parse_int=number)
    except json.JSONDecodeError as err:
        raise ValueError(f'{path}, line {err.lineno}: not valid JSON ({err.msg})') from err
    except RecursionError as err:
        raise ValueError(f'{path}: not a table of labels, but JSON that is nested deeply') from err
    if not isinstance(table, dict):
        raise ValueError(f'{path}: expected a table {{name: label}}, got a {type(table).__name__}')
    return table


def read_names(path: str) -> tuple[str, ...]:
    """Read a list of names, one a line; blank lines are skipped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not in UTF-8, or a name has control characters.
    """
    names = tuple(line.strip() for line in read_utf8(path).splitlines() if line.strip())
    wrong = next((name for name in names if not is_plain(name)), None)
    if wrong is not None:
        raise ValueError(f'{path}: a name has control characters: {_cut(wrong)}')
    return names


def _check_names(title: str, names: Iterable[str], background: bool = False) -> None:
    """Raise ValueError if a name is no line of text, empty, given twice, or background."""
    wrong = [name for name in names if not isinstance(name, str) or not name.strip()]
    if wrong:
        raise ValueError(f'{title} names must be non-empty strings, got {_cut(wrong)}')
    wrong = [name for name in names if not is_plain(name)]
    if wrong:
        raise ValueError(
            f'{title} names must be a line without control characters, got {_cut(wrong)}'
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f'{title} names given twice: {_join(twice)}')
    if not background and BACKGROUND in names:
        raise ValueError(
            f'{BACKGROUND!r} has label 0 always, it cannot be one of the {title} names'
        )


def _join(names: Iterable[str]) -> str:
    names = list(names)
    more = f' and {len(names) - _LISTED} more' if len(names) > _LISTED else ''
    return ', '.join(_cut(name) for name in names[:_LISTED]) + more


def _cut(value: object) -> str:
    """A value for a message, which a file may have made as long as it likes."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...'
