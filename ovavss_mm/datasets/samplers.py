# SPDX-License-Identifier: Apache-2.0
"""The order of a training's clips, and the random numbers of their augmentation."""

import random
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.logging import print_log
from mmseg.registry import DATA_SAMPLERS


class SeededIndex(NamedTuple):
    """The index of a clip, with what its augmentation is seeded by."""

    index: int  # type: ignore[assignment]  # of the clip in the data set; hides tuple.index
    seed: int  # of the training
    position: int  # of the sample in the training's stream of samples, of all processes together


@DATA_SAMPLERS.register_module()
class SeededInfiniteSampler(InfiniteSampler):
    """mmengine's infinite sampler, which gives :class:`SeededIndex` for a :class:`ClipDataset`.

    A sample is then augmented by the seed and its position alone: the same whatever the number of loader processes,
    and after a training was resumed. Other data sets, such as mmengine's wrappers of several, get plain indices, and
    augment with the random numbers of the loader process.

    Args:
        dataset (Sized): the data set.
        shuffle (bool): whether each pass over the data has another order. Defaults to True.
        seed (int, optional): of order and augmentation. Defaults to None: drawn, the same for all processes.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None):
        super().__init__(dataset, shuffle, seed)
        self.seeds_samples = getattr(dataset, 'takes_seeded_index', False)
        if not self.seeds_samples:
            name = type(dataset).__name__
            print_log(f'augmentation depends on the loader processes: {name} takes no SeededIndex', 'current')

    def _infinite_indices(self) -> Iterator[SeededIndex | int]:
        """The stream of all processes together, without end."""
        for position, index in enumerate(super()._infinite_indices()):
            yield SeededIndex(index, self.seed, position) if self.seeds_samples else index


@contextmanager
def seeded_rng(seed: int, position: int) -> Iterator[None]:
    """Within, the random numbers of python, numpy and torch (CPU) follow from two integers that are not negative.

    Afterwards the generators are as before.
    """
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    words = np.random.SeedSequence((seed, position)).generate_state(8)
    try:
        random.seed(int(words[0]) << 32 | int(words[1]))
        np.random.seed(words[2:6])
        torch.default_generator.manual_seed(int(words[6]) << 32 | int(words[7]))
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])
