# SPDX-License-Identifier: Apache-2.0
"""Names given at call time, and what CLIP makes of them."""

import warnings
from collections.abc import Mapping, Sequence

import torch
from mmseg.utils import get_predefined_templates
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from ..datasets.files import is_plain

MAX_NAMES = 32766  # label maps have 16 bits
MAX_LETTERS = 500
MAX_TEMPLATES = 1000
_CHUNK = 64  # names that are embedded at a time


class Vocabulary:
    """Names with their synonyms, checked.

    Args:
        names: N names; blanks around them are taken off.
        synonyms: other words for some of the names.

    Raises:
        ValueError: no names, too many, one that is blank, too long or given twice (capital letters are the same to
            CLIP), or a synonym of something else.
    """

    def __init__(self, names: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None) -> None:
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise ValueError(f'classes must be a list of names, got {repr(names)[:100]}')
        if not 1 <= len(names) <= MAX_NAMES:
            raise ValueError(f'classes must have 1 to {MAX_NAMES} names, got {len(names)}')
        self.names = tuple(_checked(name, f'classes[{i}]') for i, name in enumerate(names))
        taken: dict[str, str] = {}  # words to the names that they stand for
        for name in self.names:
            _take(taken, name, name)
        self.synonyms = dict.fromkeys(self.names, ())
        for key, words in (synonyms or {}).items():
            if str(key).strip() not in self.synonyms:
                raise ValueError(f'synonyms are given for {str(key)[:100]!r}, which is none of the classes')
            if isinstance(words, str):
                raise ValueError(f'synonyms of {key!r} must be a list of words, got {words[:100]!r}')
            name = key.strip()
            words = tuple(_checked(word, f'a synonym of {name!r}') for word in words)
            for word in words:
                _take(taken, word, name)
            self.synonyms[name] += words

    @property
    def words(self) -> tuple[str, ...]:
        """All names and synonyms."""
        return tuple(word for name in self.names for word in (name, *self.synonyms[name]))


def _take(taken: dict[str, str], word: str, name: str) -> None:
    """Note that a word stands for a name; each word may be given once."""
    key = ' '.join(word.casefold().split())
    if key in taken:
        raise ValueError(f'{word!r} is given twice: for {taken[key]!r} and for {name!r}')
    taken[key] = name


def _checked(name: object, where: str) -> str:
    """A name without blanks around it."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f'names must be text that is not blank, got {repr(name)[:100]} as {where}')
    if len(name) > MAX_LETTERS:
        raise ValueError(f'names may have up to {MAX_LETTERS} letters, {where} has {len(name)}: {name[:40]!r}...')
    if not is_plain(name.strip()):
        raise ValueError(f'names must be a line without control characters, got {name!r} as {where}')
    return name.strip()


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Prompts with ``{}`` for the name, from a list or the name of one of mmseg's sets (``'vild'``).

    Raises:
        ValueError: an unknown set, or prompts without ``{}``.
    """
    if isinstance(templates, str):
        try:
            templates = get_predefined_templates(templates)
        except (AssertionError, ValueError) as error:
            raise ValueError(f'there is no set of prompt templates {templates[:100]!r}: {str(error)[:300]}') from error
    templates = tuple(templates)
    wrong = [template for template in templates if not _is_template(template)]
    if wrong or not templates or len(templates) > MAX_TEMPLATES:
        got = repr(wrong[0])[:100] if wrong else f'{len(templates)}'
        raise ValueError(
            f'prompt_templates must be 1 to {MAX_TEMPLATES} prompts of up to {MAX_LETTERS} letters, each with {{}} '
            f'for the name once and no other braces, got {got}'
        )
    return templates


def _is_template(template: object) -> bool:
    """Whether a prompt has one place for the name, and nothing else that formatting would look up."""
    if not isinstance(template, str) or len(template) > MAX_LETTERS or not is_plain(template):
        return False
    return template.count('{}') == 1 and not set(template.replace('{}', '')) & set('{}')


class TextBank:
    """Embeddings of words by a classifier's CLIP, each computed once a set of templates.

    Args:
        classifier: of the model.
        max_words: that are remembered; when there are more, all are forgotten.
    """

    def __init__(self, classifier: nn.Module, max_words: int = 100_000) -> None:
        self.classifier, self.max_words = classifier, max_words
        self._known: dict[tuple[str, tuple[str, ...]], Tensor] = {}

    def table(self, vocabulary: Vocabulary, templates: Sequence[str], show_progress: bool = False) -> Tensor:
        """Embeddings of a vocabulary: of a name, the mean of its own and its synonyms'.

        Args:
            vocabulary: N names.
            templates: prompts with ``{}``.
            show_progress: whether a bar is shown where many are new.

        Returns:
            (N, D) float32, of length 1.
        """
        templates = tuple(templates)
        new = [word for word in vocabulary.words if (word, templates) not in self._known]
        if len(self._known) + len(new) > self.max_words:
            self._known.clear()
            new = list(vocabulary.words)
        chunks = [new[i : i + _CHUNK] for i in range(0, len(new), _CHUNK)]
        show_progress = show_progress and len(chunks) > 4
        for chunk in track(chunks, 'Names') if show_progress else chunks:
            embedded = self.classifier.embed(chunk, templates).cpu()
            self._known.update({(w, templates): e for w, e in zip(chunk, embedded, strict=True)})
        rows = []
        for name in vocabulary.names:
            own = [self._known[word, templates] for word in (name, *vocabulary.synonyms[name])]
            rows.append(own[0] if len(own) == 1 else F.normalize(torch.stack(own).mean(0), dim=0))
        return torch.stack(rows)


def warn_of_long(classifier: nn.Module, vocabulary: Vocabulary) -> list[str]:
    """Say which words are longer than CLIP reads; what is beyond has no effect.

    Args:
        classifier: of the model.
        vocabulary: the names.

    Returns:
        The message, in a list; empty if there is nothing to say.
    """
    tokenizer, room = classifier.tokenizer, classifier.clip.context_length - 2
    suspects = [word for word in vocabulary.words if len(word) > room]
    long = [word for word in suspects if len(tokenizer.encode(word)) > room]
    if not long:
        return []
    message = (
        f'{len(long)} names are longer than CLIP reads ({room} tokens with the prompt), their ends have no effect: '
        f'{long[0][:40]!r}...'
    )
    warnings.warn(message, stacklevel=2)
    return [message]
