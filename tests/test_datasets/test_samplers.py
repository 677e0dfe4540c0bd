# SPDX-License-Identifier: Apache-2.0
"""Augmentation follows from the place in the training."""

import pickle
import random
from itertools import islice

import numpy as np
import torch
from archive import write_archive

from ovavss_mm.datasets import AVSBenchOVDataset, SeededInfiniteSampler
from ovavss_mm.datasets.samplers import StreamIndex, own_chance


def take(sampler, count):
    """Indices and what they know."""
    return [(int(i), i.chance) for i in islice(iter(sampler), count)]


def test_order_is_the_hosts_and_skipping_keeps_places():
    """A resumed stream is the rest of the first."""
    whole = take(SeededInfiniteSampler(range(5), seed=3), 12)
    assert [i for i, _ in whole[:5]] != [0, 1, 2, 3, 4] and {i for i, _ in whole[:5]} == set(
        range(5)
    )
    assert [chance for _, chance in whole] == [(3, k) for k in range(12)]
    skipped = SeededInfiniteSampler(range(5), seed=3)
    skipped.skip(7)
    assert take(skipped, 5) == whole[7:]


def test_index_keeps_what_it_knows():
    """Through pickling and the arithmetic of wrappers."""
    index = StreamIndex(7, (1, 2))
    for other in (pickle.loads(pickle.dumps(index)), index + 0, index - 0, index % 10):
        assert other == 7 and other.chance == (1, 2)
    assert index.another(100) == index.another(100)
    assert len({int(StreamIndex(0, (1, k)).another(1000)) for k in range(20)}) > 10


def test_chance_is_own_and_given_back():
    """The same numbers at the same place, and the process's own go on as if there had been nothing."""

    def draw():
        return random.random(), np.random.rand(), float(torch.rand(()))

    own = []
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = [draw(), draw()]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    got = [draw()]
    for place in (0, 1, 0):
        with own_chance(StreamIndex(5, (0, place))):
            own.append(draw())
    got.append(draw())
    assert got == expected
    assert own[0] == own[2] and own[0] != own[1]


def test_dataset_uses_the_place(tmp_path):
    """The same clip is augmented otherwise at another place, and the same at the same."""
    pipeline = [
        dict(type='mmseg.SampleClipFrames', num_frames=3),
        dict(type='mmseg.LoadClipFrames'),
        dict(type='mmseg.FlipClip', prob=0.5),
    ]
    dataset = AVSBenchOVDataset(
        str(write_archive(tmp_path / 'archive')),
        'train',
        base_names='base_names.txt',
        pipeline=pipeline,
    )
    places = [StreamIndex(1, (0, k)) for k in range(8)]
    first = [tuple(dataset[i]['frame_inds']) for i in places]
    np.random.seed(7)
    assert [tuple(dataset[i]['frame_inds']) for i in places] == first
    assert len(set(first)) > 1


def test_refetching_uses_the_place(tmp_path):
    """Where a transform gives None."""
    met = []

    def none_at_first(results):
        met.append(results['clip_id'])
        return None if len(met) % 3 else results

    root = str(write_archive(tmp_path / 'archive'))
    dataset = AVSBenchOVDataset(
        root, 'train', base_names='base_names.txt', pipeline=[none_at_first]
    )
    for place in range(6):
        dataset[StreamIndex(0, (0, place))]
    first, met[:] = list(met), []
    np.random.seed(5)
    for place in range(6):
        dataset[StreamIndex(0, (0, place))]
    assert met == first and len(met) == 18
