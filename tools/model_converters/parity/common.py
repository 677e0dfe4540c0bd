# SPDX-License-Identifier: Apache-2.0
"""The list of comparisons, a line for each compared output, and how weights are drawn."""

import os.path as osp
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import ConfigDict
from torch import Tensor

ROOT = osp.join(osp.dirname(osp.abspath(__file__)), '..', '..', '..')
Arrays = Mapping[str, np.ndarray]
Shapes = Mapping[str, Sequence[int]]


class Line(NamedTuple):
    """An output that was compared.

    Attributes:
        name (str): of the output.
        shape (tuple[int, ...]): of the reference.
        difference (float): how far ours is from it.
        bound (float): the largest difference that counts as equal.
        unit (str): what ``difference`` is.
    """

    name: str
    shape: tuple[int, ...]
    difference: float
    bound: float
    unit: str = 'largest difference'

    @property
    def passed(self) -> bool:
        """Whether the difference is within its bound; an undefined one is not."""
        return bool(self.difference <= self.bound)

    def __str__(self) -> str:
        verdict = 'ok' if self.passed else 'FAILED'
        return (
            f'{self.name:<26}{str(self.shape):<22}{self.difference:>10.2e} of {self.bound:.0e}  {verdict:<8}{self.unit}'
        )


class Check(NamedTuple):
    """How a kind of fixture is compared.

    Attributes:
        run (Callable): takes the fixture's arrays, and the shapes where there are any; gives the lines.
        state_dict (str, optional): file of names and shapes of the published checkpoint, beside the fixture; None: the
            comparison needs no weights.
    """

    run: Callable[..., list[Line]]
    state_dict: str | None


CHECKS: dict[str, Check] = {}


def register(*names: str, state_dict: str | None = None) -> Callable:
    """Register the comparison of fixtures ``<name>_seed<n>.npz``.

    Args:
        *names (str): of the fixtures.
        state_dict (str, optional): as of :class:`Check`. Defaults to None.

    Returns:
        Callable: a decorator.
    """

    def add(function: Callable) -> Callable:
        CHECKS.update({name: Check(function, state_dict) for name in names})
        return function

    return add


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest absolute difference; undefined values must be undefined in both."""
    if not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        return float('inf')
    return float(np.nanmax(np.abs(ours - theirs), initial=0))


def outlier_share(bound: float) -> Callable[[np.ndarray, np.ndarray], float]:
    """Make the measure: share of values further apart than ``bound``."""

    def share(ours: np.ndarray, theirs: np.ndarray) -> float:
        return float(np.mean(~(np.abs(ours - theirs) <= bound)))

    return share


def compare(
    name: str,
    ours: Any,
    theirs: np.ndarray,
    bound: float,
    measure: Callable[[np.ndarray, np.ndarray], float] = largest_difference,
    unit: str = 'largest difference',
) -> Line:
    """Compare an output with its reference.

    Args:
        name (str): of the output.
        ours (np.ndarray | Tensor): the output.
        theirs (np.ndarray): the reference.
        bound (float): the largest difference that counts as equal.
        measure (Callable): the difference of two float64 arrays of one shape. Defaults to largest_difference.
        unit (str): what ``measure`` gives. Defaults to 'largest difference'.

    Returns:
        Line: arrays of different shapes are infinitely far apart.
    """
    ours = ours.detach().cpu().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
    if ours.shape != theirs.shape:
        return Line(name, theirs.shape, float('inf'), bound, f'ours has shape {ours.shape}')
    difference = measure(ours.astype(np.float64), theirs.astype(np.float64))
    return Line(name, theirs.shape, difference, bound, unit)


def draw(key: str, shape: Sequence[int], seed: int, divided: bool = True) -> np.ndarray:
    """Draw a float32 weight from its published name and shape and the seed of a fixture.

    Standard deviation 1 / sqrt(inputs) for matrices (1 if not ``divided``), about 1 for scales, about 0 for shifts.
    """
    rng = np.random.RandomState((zlib.crc32(key.encode()) + seed) % 2**32)
    noise = rng.standard_normal(int(np.prod(shape))).astype(np.float32).reshape(tuple(shape))
    if key.endswith('running_var'):
        return 1 + 0.1 * np.abs(noise)
    if len(shape) <= 1:
        return (1 if key.endswith('weight') else 0) + 0.05 * noise
    return noise / np.float32(np.sqrt(np.prod(shape[1:]))) if divided else noise


def draw_state(shapes: Shapes, seed: int, fixture: Arrays | None = None) -> dict[str, Tensor]:
    """Draw a published checkpoint; index buffers and counters, which are computed, are left out.

    Args:
        shapes (Mapping[str, Sequence[int]]): published names to shapes.
        seed (int): of the fixture.
        fixture (Mapping[str, np.ndarray], optional): of an open-vocabulary baseline: queries are drawn at full size,
            so that they differ, and its ``weight/KEY`` replaces what is drawn for KEY. Defaults to None.

    Returns:
        dict[str, Tensor]: published names to float32 tensors.

    Raises:
        ValueError: a replacement has no place, or another shape.
    """
    whole = () if fixture is None else ('query_feat.weight', 'query_embed.weight')
    state = {
        key: torch.from_numpy(np.asarray(draw(key, shape, seed, not key.endswith(whole)), dtype=np.float32))
        for key, shape in shapes.items()
        if not key.endswith(('relative_position_index', 'num_batches_tracked'))
    }
    for name, value in (fixture or {}).items():
        key = name.removeprefix('weight/')
        if key == name:
            continue
        if key not in state or state[key].shape != value.shape:
            raise ValueError(f'{name} {value.shape} replaces no weight of that name and shape')
        state[key] = torch.tensor(value)
    return state


def model_config(path: str) -> ConfigDict:
    """Read the model of a config, by its path below ``configs/``."""
    from ovavss_mm.models.skeleton import read_config

    return read_config(osp.join(ROOT, 'configs', path)).model


def class_names() -> Any:
    """Vocabulary of the fixtures: the 70 class names of AVSBench-OV with ``base`` and ``novel``."""
    from ovavss_mm.datasets import vocabulary

    files = vocabulary.PACKAGED_NAMES, vocabulary.PACKAGED_BASE_NAMES['avsbench_ov']
    return vocabulary.Vocabulary(*(vocabulary.read_names(str(file)) for file in files))
