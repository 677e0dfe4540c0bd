# SPDX-License-Identifier: Apache-2.0
"""Text for messages: shortened lists and values, and a logger that keeps quiet."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mmengine.logging import MMLogger

MAX_SHOWN = 5
MAX_LENGTH = 160


def shorten(items: Iterable[object], most: int = MAX_SHOWN, sep: str = ', ') -> str:
    """Join the first items of a list and count the rest.

    Args:
        items (Iterable): to be listed.
        most (int): number of items that are named. Defaults to 5.
        sep (str): what stands between them. Defaults to ``', '``.

    Returns:
        str: such as ``'a, b, c and 4 more'``; empty for an empty list.
    """
    items = [str(item) for item in items]
    more = f' and {len(items) - most} more' if len(items) > most else ''
    return sep.join(items[:most]) + more


def one_line(value: object, most: int = MAX_LENGTH) -> str:
    """Give the text of a value in one line of at most ``most`` characters and an ellipsis.

    Args:
        value (object): a text, an error, or anything with a ``str``.
        most (int): number of characters. Defaults to 160.

    Returns:
        str: the line.
    """
    text = ' '.join(str(value).split())
    return text if len(text) <= most else f'{text[:most]}...'


@contextmanager
def quiet_logger(level: int | str = logging.ERROR) -> Iterator[None]:
    """Temporarily raise the level of mmengine's current logger.

    Args:
        level (int | str): the lowest level that is still logged. Defaults to ``logging.ERROR``.
    """
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
