# SPDX-License-Identifier: Apache-2.0
"""Class names: which there are, which are met in training, and which other words stand for them."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from mmseg.utils import get_predefined_templates

from ..utils.text import nearest, one_line, shorten
from .files import is_plain, read_json, read_utf8
from .palette import voc_palette

BACKGROUND = 'background'
PACKAGED_BASE_NAMES = {'avsbench_ov': Path(__file__).parent / 'avsbench_ov_base.txt'}
PACKAGED_NAMES = Path(__file__).parent / 'avsbench_semantic_names.txt'  # the 70 names in the order of their labels
ALL_NAMES = 'all'  # every name is a base name
MAX_NAMES = 32766  # label maps have at most 16 bits
MAX_LETTERS = 500
COMMAS = '[,;\uff0c\uff1b\u3001\u060c]'  # between names, also those of Chinese, Japanese and Arabic keyboards
MAX_TEMPLATES = 1000


class Vocabulary(tuple[str, ...]):
    """N class names, as a tuple; name i has label i + 1, label 0 is background.

    The arguments are attributes too: ``base`` and ``novel`` are tuples in the order of ``names``, ``synonyms`` is a
    dict with a tuple for every name, ``templates`` a tuple or None.
    """

    base: tuple[str, ...]
    novel: tuple[str, ...]
    synonyms: dict[str, tuple[str, ...]]
    templates: tuple[str, ...] | None

    def __new__(
        cls,
        names: Iterable[str],
        base: Iterable[str] | None = None,
        novel: Iterable[str] | None = None,
        synonyms: Mapping[str, Sequence[str]] | None = None,
        templates: str | Sequence[str] | None = None,
    ) -> 'Vocabulary':
        """Check the names.

        Args:
            names (Iterable[str]): all names in the order of their labels, without background. Blanks around them are
                removed.
            base (Iterable[str], optional): the names seen in training. None: not known. Defaults to None.
            novel (Iterable[str], optional): the names not seen in training. Defaults to all that are not in ``base``.
            synonyms (Mapping[str, Sequence[str]], optional): other words for some of the names. Defaults to None.
            templates (str | Sequence[str], optional): prompt templates with ``{}`` for the name, or the name of one of
                mmseg's sets, such as ``'vild'``. None: those of the classifier. Defaults to None.

        Raises:
            ValueError: no names or too many; one that is not a line of text, too long, 'background', or given twice
                (upper and lower case are the same to CLIP); a base name, novel name or synonym of a name that is not in
                the vocabulary; a name both base and novel; or templates without ``{}``.
        """
        self = super().__new__(cls, _checked_names(names, 'vocabulary'))
        if not 1 <= len(self) <= MAX_NAMES:
            raise ValueError(f'the vocabulary must have 1 to {MAX_NAMES} names, got {len(self)}')
        taken: dict[str, str] = {}  # words to the names that they stand for
        _take(taken, self)
        self.base = self._group('base', base or ())
        if novel is None:
            novel = () if base is None else (name for name in self if name not in set(self.base))
        self.novel = self._group('novel', novel)
        if both := set(self.base) & set(self.novel):
            raise ValueError(f'names that are both base and novel: {shorten(map(repr, sorted(both)))}')
        self.synonyms = self._checked_synonyms(synonyms or {}, taken)
        self.templates = None if templates is None else resolve_templates(templates)
        return self

    def __reduce__(self) -> tuple:
        return Vocabulary, (self.names, self.base, self.novel, self.synonyms, self.templates)

    def __deepcopy__(self, memo: dict) -> 'Vocabulary':
        return self  # nothing of it changes

    def _group(self, title: str, group: Iterable[str]) -> tuple[str, ...]:
        """Base or novel names in the order of the vocabulary."""
        group, order = _checked_names(group, title), {name: i for i, name in enumerate(self)}
        if missing := sorted(set(group) - set(order)):
            like = f'the nearest name to {missing[0]!r} is {nearest(missing[0], self)!r}'
            raise ValueError(f'{title} names that are not in the vocabulary: {shorten(map(repr, missing))}; {like}')
        _take({}, group, title=f'{title} name ')
        return tuple(sorted(group, key=order.__getitem__))

    def _checked_synonyms(
        self, synonyms: Mapping[str, Sequence[str]], taken: dict[str, str]
    ) -> dict[str, tuple[str, ...]]:
        """Synonyms of every name."""
        checked: dict[str, tuple[str, ...]] = dict.fromkeys(self, ())
        for key, words in synonyms.items():
            name = str(key).strip()
            if name not in checked:
                like = f'which is none of the class names; the nearest is {nearest(name, self)!r}'
                raise ValueError(f'synonyms of {one_line(repr(key))}, {like}')
            if isinstance(words, str):
                raise ValueError(f'synonyms of {name!r} must be a list, got {one_line(repr(words))}')
            words = _checked_names(words, f'synonyms of {name!r}: the')
            _take(taken, words, name)
            checked[name] += words
        return checked

    @classmethod
    def from_label2idx(cls, label2idx: Mapping[str, int], base: Iterable[str]) -> 'Vocabulary':
        """Make a vocabulary from a table of labels and the names seen in training, or 'all'.

        ``background`` must have label 0, the names 1 .. N without gaps, else ValueError.
        """
        if not isinstance(label2idx, Mapping):
            raise ValueError(f'expected a table {{name: label}}, got a {type(label2idx).__name__}')
        if wrong := {k: v for k, v in label2idx.items() if type(v) is not int}:
            raise ValueError(f'labels must be integers, got {one_line(repr(wrong))}')
        if label2idx.get(BACKGROUND) != 0:
            raise ValueError(f'{BACKGROUND!r} must have label 0, got {label2idx.get(BACKGROUND, "none")}')
        ordered = sorted(label2idx, key=label2idx.__getitem__)
        for expected, name in enumerate(ordered):
            if label2idx[name] != expected:
                found = f'{one_line(repr(name))} has {label2idx[name]} where {expected} was expected'
                raise ValueError(f'labels must be 0 to {len(ordered) - 1}, each once; {found}')
        return cls(ordered[1:], ordered[1:] if base == ALL_NAMES else base)

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
        label2idx, source = read_label2idx(label_file), ''
        if isinstance(base, str) and base != ALL_NAMES:
            source = f' with base names of {base}'
            base = read_names(base)
        try:
            return cls.from_label2idx(label2idx, base)
        except ValueError as err:
            raise ValueError(f'{label_file}{source}: {err}') from err

    @property
    def names(self) -> tuple[str, ...]:
        """The N names as a plain tuple."""
        return tuple(self)

    @property
    def classes(self) -> tuple[str, ...]:
        """Background and all names: N + 1, the index is the label."""
        return (BACKGROUND, *self)

    @property
    def words(self) -> tuple[str, ...]:
        """All names, each followed by its synonyms."""
        return tuple(word for name in self for word in (name, *self.synonyms[name]))

    @cached_property
    def palette(self) -> list[list[int]]:
        """PASCAL VOC colours of the N + 1 labels, rows [red, green, blue] of 0..255."""
        return voc_palette(len(self) + 1)


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Prompt templates from a list, or from the name of one of mmseg's sets (``'vild'``).

    Raises:
        ValueError: an unknown set, or templates without ``{}``.
    """
    if isinstance(templates, str):
        try:
            templates = get_predefined_templates(templates)
        except (AssertionError, ValueError) as error:
            found = f'{one_line(repr(templates))}: {str(error)[:300]}'
            raise ValueError(f'there is no set of prompt templates {found}') from error
    templates = tuple(templates)
    wrong = [template for template in templates if not _is_template(template)]
    if wrong or not 1 <= len(templates) <= MAX_TEMPLATES:
        raise ValueError(
            f'templates must be 1 to {MAX_TEMPLATES} prompts of up to {MAX_LETTERS} letters, each with {{}} '
            f'for the name once and no other braces, got {one_line(repr(wrong[0] if wrong else templates))}'
        )
    return templates


def _is_template(template: object) -> bool:
    """Whether it is a line of text with one place for the name, and no other braces."""
    if not isinstance(template, str) or len(template) > MAX_LETTERS or not is_plain(template):
        return False
    return re.fullmatch('[^{}]*{}[^{}]*', template) is not None


def read_label2idx(path: str) -> dict[str, int]:
    """Read a JSON table of labels; blanks around names are removed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not JSON (the message names the line), or a name occurs twice.
    """

    def unique(pairs: list[tuple]) -> dict:
        table = {}
        for key, value in pairs:
            key = key.strip()
            if key in table:
                raise ValueError(f'{one_line(repr(key))} is given twice')
            table[key] = value
        return table

    return read_json(path, object_pairs_hook=unique)


def read_names(path: str) -> tuple[str, ...]:
    """Read a list of names, one a line or as a JSON list; blank lines are skipped. Commas belong to the names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not in UTF-8, looks like JSON and is no list of texts, or a name has control characters.
    """
    text = read_utf8(path)
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        names = split_names([text]) if text.lstrip().startswith(('[', '{')) else lines
    except ValueError as err:
        raise ValueError(f'{path}: {err}') from err
    if len(names) == 1 and re.search(COMMAS, names[0]):
        raise ValueError(f'{path} has one line with commas: a name a line is expected, or a JSON list')
    return _checked_names(names, f'{path}: the')


def split_names(entries: Sequence[str]) -> list[str]:
    """Names as people type them: one an entry, with commas between them, or as a JSON list.

    Raises:
        ValueError: what looks like JSON is none, or no list of texts.
    """
    text = ' '.join(entries).strip()
    if not text.startswith(('[', '{', '"', "'")):
        return [name.strip() for entry in entries for name in re.split(COMMAS, entry) if name.strip()]
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f'names are given one by one, with commas, or as a JSON list of texts; got {one_line(text)}')
    return names


def _checked_names(names: Iterable[str], title: str) -> tuple[str, ...]:
    """Names without blanks around them, each a line of text that is not background."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError(f'{title} names must be a list, got {one_line(repr(names))}')
    names = tuple(names)
    for i, name in enumerate(names):
        where = f'{title} name {i}'
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f'{where} must be text that is not blank, got {one_line(repr(name))}')
        if len(name) > MAX_LETTERS:
            raise ValueError(f'{where} must have up to {MAX_LETTERS} letters, has {len(name)}: {name[:40]!r}...')
        if not is_plain(name.strip()):
            raise ValueError(f'{where} must be a line without control characters, got {name!r}')
        if name.strip() == BACKGROUND:
            raise ValueError(f'{where} is {BACKGROUND!r}, which always has label 0')
    return tuple(name.strip() for name in names)


def _take(taken: dict[str, str], words: Iterable[str], name: str | None = None, title: str = 'the name ') -> None:
    """Note that words stand for a name (None: each for itself); each word may be given once."""
    for word in words:
        key = ' '.join(word.casefold().split())
        if key in taken:
            raise ValueError(f'{title}{word!r} is given twice: for {taken[key]!r} and for {name or word!r}')
        taken[key] = name or word
