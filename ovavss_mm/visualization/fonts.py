# SPDX-License-Identifier: Apache-2.0
"""Fonts that have the letters of a text."""

import functools
import os.path as osp
from collections.abc import Iterable

import matplotlib
import numpy as np
from matplotlib.font_manager import findSystemFonts
from matplotlib.ft2font import FT2Font
from PIL import ImageFont


def font(size: int, bold: bool = False, text: str = '') -> ImageFont.FreeTypeFont:
    """A sans serif font for a text, ``size`` in pixels.

    It is the one that ships with matplotlib, or, where that lacks a letter, one of the computer's that has them all.
    """
    shipped = _shipped(bold)
    return _load(shipped if _lacking(shipped, text) == '' else _find(text, bold) or shipped, size)


def text_width(text: str, size: int, bold: bool = False) -> int:
    """Width of a line of text in pixels, rounded up."""
    return int(np.ceil(font(size, bold, text).getlength(text)))


def unreadable(texts: Iterable[str]) -> list[str]:
    """Those of some texts that no font on this computer has all letters of."""
    return [text for text in texts if _lacking(_shipped(True), text) and _find(text, True) is None]


def _shipped(bold: bool) -> str:
    """Path of the font that ships with matplotlib."""
    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    return osp.join(matplotlib.get_data_path(), 'fonts', 'ttf', name)


@functools.lru_cache(maxsize=16)
def _load(path: str, size: int) -> ImageFont.FreeTypeFont:
    """A font file at a size in pixels."""
    return ImageFont.truetype(path, size)


@functools.lru_cache(maxsize=2048)
def _letters(path: str) -> frozenset[int]:
    """Code points that a font file has; none of one that cannot be read."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (RuntimeError, OSError):
        return frozenset()


def _lacking(path: str, text: str) -> str:
    """The letters of a text that a font file lacks, each once."""
    known = _letters(path)
    return ''.join(sorted({letter for letter in text if ord(letter) not in known and not letter.isspace()}))


@functools.lru_cache(maxsize=1024)
def _find(text: str, bold: bool) -> str | None:
    """The font file on this computer that has all letters of a text; sans serif and Noto fonts first."""

    def rank(path: str) -> tuple:
        name = osp.basename(path).lower()
        return 'noto' not in name, 'serif' in name, ('bold' in name) != bold, 'italic' in name, name

    return next((path for path in sorted(findSystemFonts(), key=rank) if not _lacking(path, text)), None)
