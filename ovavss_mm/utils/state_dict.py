# SPDX-License-Identifier: Apache-2.0
"""Comparing a state dict with the one that is expected."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .text import shorten


@dataclass(frozen=True)
class Mismatch:
    """What does not fit; false if everything does."""

    missing: list[str]  # expected keys that are not there
    unexpected: list[str]
    shapes: dict[str, str]  # keys to the shapes found and expected, in words

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def __str__(self) -> str:
        kinds = (
            ('missing', self.missing),
            ('unexpected', self.unexpected),
            ('of another shape', [f'{key} {text}' for key, text in self.shapes.items()]),
        )
        return '; '.join(f'{len(keys)} {kind}: {shorten(keys)}' for kind, keys in kinds if keys)

    def without(
        self, missing: Iterable[str] = (), unexpected: Iterable[str] = (), shapes: Iterable[str] = ()
    ) -> 'Mismatch':
        """Leave out the keys that one of the regular expressions of their kind matches from the start."""
        return Mismatch(
            [key for key in self.missing if not matches(key, missing)],
            [key for key in self.unexpected if not matches(key, unexpected)],
            {k: text for k, text in self.shapes.items() if not matches(k, shapes)},
        )


def matches(key: str, patterns: Iterable[str]) -> bool:
    """Whether a regular expression matches a key from its start."""
    return any(re.match(pattern, key) for pattern in patterns)


def compare_keys(
    state: Mapping[str, Any], expected: Mapping[str, Any], required: Iterable[str] | None = None
) -> Mismatch:
    """Compare names and shapes of tensors that were found and expected; ``required`` (None: all) must be there."""
    shapes = {
        key: f'is {_shape(state[key])}, expected {_shape(value)}'
        for key, value in expected.items()
        if key in state and _shape(state[key]) != _shape(value)
    }
    required = expected if required is None else required
    return Mismatch(
        [key for key in required if key not in state], [key for key in state if key not in expected], shapes
    )


def _shape(value: Any) -> tuple[int, ...] | None:
    """Shape of a tensor; None for anything else, which is not compared."""
    return tuple(value.shape) if hasattr(value, 'shape') else None
