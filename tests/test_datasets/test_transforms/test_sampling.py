# SPDX-License-Identifier: Apache-2.0
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from ovavss_mm.datasets import SampleClipFrames


@pytest.mark.parametrize('num_frames', [1, 3, 5, 9])
def test_sorted_distinct_and_in_range(num_frames):
    np.random.seed(0)
    for _ in range(50):
        inds = SampleClipFrames(num_frames)({'num_frames': 10})['frame_inds']
        assert inds.dtype == np.int64
        assert len(inds) == num_frames
        assert (np.diff(inds) > 0).all()
        assert 0 <= inds[0] <= inds[-1] < 10


@pytest.mark.parametrize('num_frames', [None, 4, 7])
def test_all_frames(num_frames):
    inds = SampleClipFrames(num_frames)({'num_frames': 4})['frame_inds']
    assert inds.tolist() == [0, 1, 2, 3]


def test_an_annotated_frame_is_among_them():
    np.random.seed(0)
    results = {'num_frames': 5, 'label_paths': ['0.png', None, None, None, None]}
    chosen = [tuple(SampleClipFrames(2)(dict(results))['frame_inds']) for _ in range(60)]
    assert set(chosen) == {(0, i) for i in range(1, 5)}


def test_each_choice_is_equally_likely():
    np.random.seed(0)
    results = {'num_frames': 4, 'label_paths': list('abcd')}
    n = 3000
    counts = Counter(tuple(SampleClipFrames(2)(dict(results))['frame_inds']) for _ in range(n))
    assert set(counts) == set(combinations(range(4), 2))
    assert all(abs(c / n - 1 / 6) < 0.03 for c in counts.values())


def test_wrong_number():
    with pytest.raises(ValueError, match='got 0'):
        SampleClipFrames(0)
