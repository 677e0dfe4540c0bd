# SPDX-License-Identifier: Apache-2.0
"""Augmentation follows from the place in the training."""

import random
from itertools import islice

import numpy as np
import torch
from archive import write_archive
from mmengine.dataset import ConcatDataset, InfiniteSampler

from ovavss_mm.datasets import AVSBenchOVDataset, SeededInfiniteSampler
from ovavss_mm.datasets.samplers import SeededIndex, seeded_rng


class Clips(list):
    """As a data set of clips."""

    takes_seeded_index = True


def take(sampler, count):
    return list(islice(iter(sampler), count))


def test_order_is_the_hosts_and_skipping_keeps_places():
    """A resumed stream is the rest of the first."""
    whole = take(SeededInfiniteSampler(Clips(range(5)), seed=3), 12)
    assert [i.index for i in whole] == take(InfiniteSampler(range(5), seed=3), 12)
    assert [i[1:] for i in whole] == [(3, k) for k in range(12)]
    skipped = SeededInfiniteSampler(Clips(range(5)), seed=3)
    skipped.skip(7)
    assert take(skipped, 5) == whole[7:]


def test_wrappers_of_data_sets_get_plain_indices(tmp_path):
    """mmengine's compute with an index: the order is the same, the augmentation the process's own."""
    root = str(write_archive(tmp_path / 'archive'))
    part = AVSBenchOVDataset(root, 'train', base_names='base_names.txt')
    sampler = SeededInfiniteSampler(ConcatDataset([part, part]), seed=3)
    found = take(sampler, 6)
    assert sorted(found) == list(range(6)) and {type(i) for i in found} == {int}
    assert {sampler.dataset[i]['clip_id'] for i in found} == {'bird_0', 'dog_guitar', 'horse_1'}
    assert isinstance(take(SeededInfiniteSampler(part, seed=3), 1)[0], SeededIndex)


def test_random_numbers_are_seeded_and_the_generators_given_back():
    """The same numbers at the same place, and the process's own go on as if there had been nothing."""

    def draw():
        return random.random(), np.random.rand(), float(torch.rand(()))

    own = []
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = [draw(), draw()]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    got = [draw()]
    for place in (0, 1, 0):
        with seeded_rng(0, place):
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
        str(write_archive(tmp_path / 'archive')), 'train', base_names='base_names.txt', pipeline=pipeline
    )
    places = [SeededIndex(1, 0, k) for k in range(8)]
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
    dataset = AVSBenchOVDataset(root, 'train', base_names='base_names.txt', pipeline=[none_at_first])
    for place in range(6):
        dataset[SeededIndex(0, 0, place)]
    first, met[:] = list(met), []
    np.random.seed(5)
    for place in range(6):
        dataset[SeededIndex(0, 0, place)]
    assert met == first and len(met) == 18


def test_seeds_are_those_of_earlier_versions():
    """A training that was begun before goes on with the same augmentation."""
    with seeded_rng(3, 7):
        drawn = random.random(), np.random.rand(), float(torch.rand(()))
    assert drawn == (0.06401930754991958, 0.1118851202971205, 0.6412984132766724)
