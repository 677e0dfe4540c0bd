# SPDX-License-Identifier: Apache-2.0
"""A line for each compared output."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

# What a fixture is, by the arrays that only its kind has.
_KINDS = {
    'network': {'images', 'audio', 'pred_logits', 'aux0_logits'},
    'clip': {'frames', 'masks', 'valid', 'regions', 'image_embeds', 'text_embeds', 'similarity'},
    'end to end': {'images', 'audio', 'scores', 'labels', 'masks', 'label_map'},
    'loss': {'pred_logits', 'pred_mask_const', 'target_mask_const', 'v2/loss_ce', 'v1s/loss_ce'},
    'metric': {'gt', 'pred', 'frames_per_video', 'per_class_iou', 'mean_iou'},
}


class Line(NamedTuple):
    """An output that was compared.

    Attributes:
        name: of the output.
        shape: of the reference.
        difference: how far ours is from it.
        bound: the largest difference that counts as equal.
        unit: what ``difference`` is.
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
            f'{self.name:<26}{str(self.shape):<22}{self.difference:>10.2e} of {self.bound:.0e}  '
            f'{verdict:<8}{self.unit}'
        )


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest absolute difference; undefined values must be undefined in both."""
    if not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        return float('inf')
    return float(np.nanmax(np.abs(ours - theirs), initial=0))


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
        name: of the output.
        ours: array or tensor.
        theirs: the reference.
        bound: the largest difference that counts as equal.
        measure: the difference of two float64 arrays of one shape.
        unit: what ``measure`` gives.

    Returns:
        The line; arrays of different shapes are infinitely far apart.
    """
    ours = ours.detach().cpu().numpy() if isinstance(ours, torch.Tensor) else np.asarray(ours)
    if ours.shape != theirs.shape:
        return Line(name, theirs.shape, float('inf'), bound, f'ours has shape {ours.shape}')
    difference = measure(ours.astype(np.float64), theirs.astype(np.float64))
    return Line(name, theirs.shape, difference, bound, unit)


def kind_of(fixture: Mapping[str, np.ndarray]) -> str:
    """Tell what was measured from the arrays of a fixture.

    Args:
        fixture: names to arrays.

    Returns:
        'network', 'clip', 'end to end', 'loss' or 'metric'.

    Raises:
        ValueError: the arrays are of no kind.
    """
    for kind, names in _KINDS.items():
        if names <= set(fixture):
            return kind
    raise ValueError(
        f'the arrays {", ".join(sorted(fixture)[:12])} are not those of a network, clip, end to '
        'end, loss or metric fixture'
    )
