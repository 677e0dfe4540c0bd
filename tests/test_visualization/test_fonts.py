# SPDX-License-Identifier: Apache-2.0
"""Names are drawn in a font that has their letters, or it is said that none has."""

import numpy as np
import pytest
from matplotlib.font_manager import findfont

from ovavss_mm.visualization import fonts
from ovavss_mm.visualization.drawing import write_names


@pytest.fixture()
def installed(monkeypatch):
    """Say which fonts the computer has."""

    def install(*paths: str) -> None:
        monkeypatch.setattr(fonts, 'findSystemFonts', lambda: list(paths))
        fonts._find.cache_clear()

    yield install
    fonts._find.cache_clear()


def test_letters_that_no_font_has_are_said(installed):
    installed('/nowhere/gone.ttf')
    assert fonts.unreadable(['dog', 'chat \u00e9', '\u9752\u3044', '\u0645\u0631\u0628\u0639']) == ['\u9752\u3044']
    assert fonts.font(12, True, '\u9752\u3044').path.endswith('DejaVuSans-Bold.ttf')


def test_a_font_of_the_computer_is_taken_where_it_has_them(installed):
    """And only there; the text is drawn with it."""
    letters = map(chr, sorted(fonts._letters(findfont('STIXGeneral'))))
    text = next(c for c in letters if c.isprintable() and fonts._lacking(fonts._shipped(True), c))
    installed(findfont('STIXGeneral'))
    assert fonts.unreadable([text]) == []
    assert 'STIX' in fonts.font(12, True, text).path
    assert 'DejaVu' in fonts.font(12, True, 'dog').path
    labels = np.ones((40, 90), int)
    palette = np.array([[0, 0, 0], [10, 200, 10]], np.uint8)
    blank = np.zeros((40, 90, 3), np.uint8)
    drawn = [write_names(blank, labels, ['background', name], palette, 20) for name in (text, '\ufffe')]
    assert (drawn[0] != drawn[1]).any()
