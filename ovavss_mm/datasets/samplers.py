# SPDX-License-Identifier: Apache-2.0
"""The order of a training's clips, and the chance in their augmentation."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmseg.registry import DATA_SAMPLERS


class StreamIndex(int):
    """The index of a clip, which knows where in a training's stream of clips it stands.

    It is an ``int`` in all else. ``+``, ``-`` and ``%``, with which wrappers of datasets find the
    index within a part, keep what it knows; so does pickling.

    Attributes:
        chance (tuple[int, ...]): seed and position in the stream; what is random about the sample
            follows from it.
    """

    chance: tuple[int, ...]

    def __new__(cls, index: int, chance: tuple[int, ...]) -> 'StreamIndex':
        """Make one.

        Args:
            index: of the clip.
            chance: not negative; see the class.
        """
        self = super().__new__(cls, index)
        self.chance = tuple(chance)
        return self

    def __reduce__(self) -> tuple:
        """For pickling, on the way to a loader process."""
        return StreamIndex, (int(self), self.chance)

    def __add__(self, other: int) -> 'StreamIndex':
        """The sum, at the same position."""
        return StreamIndex(int(self) + other, self.chance)

    def __sub__(self, other: int) -> 'StreamIndex':
        """The difference, at the same position."""
        return StreamIndex(int(self) - other, self.chance)

    def __mod__(self, other: int) -> 'StreamIndex':
        """The remainder, at the same position."""
        return StreamIndex(int(self) % other, self.chance)

    def another(self, size: int) -> 'StreamIndex':
        """A random index below ``size`` in place of this one; the same each time.

        Args:
            size: how many there are.
        """
        chance = (*self.chance, 1)
        return StreamIndex(np.random.default_rng(chance).integers(size), chance)


@DATA_SAMPLERS.register_module()
class SeededInfiniteSampler(InfiniteSampler):
    """mmengine's infinite sampler, whose indices say where in the stream they stand.

    With it :class:`AVSBenchOVDataset` augments a sample by the seed and the sample's position alone:
    the same whatever the number of loader processes, and after a training was resumed.

    Args:
        dataset (Sized): the dataset.
        shuffle (bool): whether each pass over the data has another order.
        seed (int, optional): of order and augmentation; None: drawn, the same for all processes.
    """

    def _infinite_indices(self) -> Iterator[StreamIndex]:
        """The stream of all processes together, without end."""
        for position, index in enumerate(super()._infinite_indices()):
            yield StreamIndex(index, (self.seed, position))


@contextmanager
def own_chance(index: int) -> Iterator[None]:
    """Within, the random numbers of python, numpy and torch (CPU) follow from the position of an index.

    Afterwards their generators are as before. Nothing happens for a plain ``int``.

    Args:
        index: of a sample.
    """
    if not isinstance(index, StreamIndex):
        yield
        return
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    words = np.random.SeedSequence(index.chance).generate_state(8)
    try:
        random.seed(int(words[0]) << 32 | int(words[1]))
        np.random.seed(words[2:6])
        torch.default_generator.manual_seed(int(words[6]) << 32 | int(words[7]))
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])
