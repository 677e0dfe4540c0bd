# SPDX-License-Identifier: Apache-2.0
from ovavss_mm.utils.text import one_line, shorten


def test_lists_are_shortened():
    assert shorten([]) == '' and shorten('ab') == 'a, b'
    assert shorten(range(9), 2, '; ') == '0; 1 and 7 more'
    assert shorten(iter(range(5))) == '0, 1, 2, 3, 4'


def test_values_fit_on_a_line():
    assert one_line(ValueError('a\n  b')) == 'a b'
    assert one_line('x' * 9, most=4) == 'xxxx...'
