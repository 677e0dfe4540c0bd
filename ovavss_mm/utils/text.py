# SPDX-License-Identifier: Apache-2.0
"""Text for messages: shortened lists and values."""

from collections.abc import Iterable
from difflib import get_close_matches


def shorten(items: Iterable[object], most: int = 5, sep: str = ', ') -> str:
    """Join the first ``most`` items of a list and count the rest: ``'a, b, c and 4 more'``; empty for an empty list."""
    texts = [str(item) for item in items]
    more = f' and {len(texts) - most} more' if len(texts) > most else ''
    return sep.join(texts[:most]) + more


def one_line(value: object, most: int = 160) -> str:
    """The text of a value in one line, of at most ``most`` characters and an ellipsis."""
    text = ' '.join(str(value).split())
    return text if len(text) <= most else f'{text[:most]}...'


def nearest(word: str, known: Iterable[str]) -> str:
    """The word of a list, which is not empty, that is most like another one; case does not matter."""
    folded = {other.casefold(): other for other in known}
    return folded[get_close_matches(word[:100].casefold(), folded, n=1, cutoff=0)[0]]  # of long ones the start will do
