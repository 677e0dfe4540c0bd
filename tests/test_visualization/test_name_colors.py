# SPDX-License-Identifier: Apache-2.0
"""Colours of names are stable, different, and well apart."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovavss_mm.visualization.name_colors import NUM_COLORS, color_set, name_palette, to_lab

WORDS = st.lists(st.text('abcdefgh', min_size=1, max_size=5), min_size=1, max_size=NUM_COLORS, unique=True)


def nearest(palette: np.ndarray) -> float:
    """Least distance of two colours."""
    lab = to_lab(palette)
    if len(lab) == 1:
        return np.inf
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    return distance[~np.eye(len(lab), dtype=bool)].min()


@settings(max_examples=60, deadline=None)
@given(WORDS)
def test_well_apart_and_black_first(names):
    """Up to 64 names: no two nearer than half of what the best choice would give."""
    palette = name_palette(names)
    assert palette.shape == (len(names) + 1, 3) and palette.dtype == np.uint8
    assert not palette[0].any()
    _, _, spread = color_set()
    assert nearest(palette[1:]) >= min(0.5 * spread[len(names) - 1], 30) - 1e-3
    assert nearest(palette) > 8  # what is told apart at a glance is 2 to 3


@settings(max_examples=30, deadline=None)
@given(WORDS, st.randoms(use_true_random=False))
def test_order_does_not_matter(names, rng):
    shuffled = names[:]
    rng.shuffle(shuffled)
    before = dict(zip(names, name_palette(names)[1:].tolist(), strict=True))
    after = dict(zip(shuffled, name_palette(shuffled)[1:].tolist(), strict=True))
    assert before == after


def test_most_names_keep_their_colour_among_others():
    names = [f'thing {i}' for i in range(6)]
    alone = {name: name_palette([name])[1].tolist() for name in names}
    together = dict(zip(names, name_palette(names)[1:].tolist(), strict=True))
    assert sum(alone[name] == together[name] for name in names) >= 4


def test_same_in_every_process():
    code = (
        'import ovavss_mm; from ovavss_mm.visualization.name_colors import name_palette; '
        'print(name_palette(["dog", "violin"]).tolist())'
    )
    env = {'PYTHONHASHSEED': '77', 'PATH': ''}
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env)
    assert out.stdout.splitlines()[-1] == str(name_palette(['dog', 'violin']).tolist())


@pytest.mark.parametrize('count', [65, 1000, 10_000])
def test_many_names_all_differ(count):
    palette = name_palette([f'thing {i}' for i in range(count)])
    assert len(np.unique(palette, axis=0)) == count + 1


def test_a_name_once():
    with pytest.raises(ValueError, match='may occur once'):
        name_palette(['dog', 'dog'])
