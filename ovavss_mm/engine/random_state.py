# SPDX-License-Identifier: Apache-2.0
"""The state of a process's random number generators, as plain data."""

import random
from typing import Any

import numpy as np
import torch


def get_random_state() -> dict[str, Any]:
    """The state of the generators of python, numpy and torch (CPU, and the current GPU where one is used).

    Returns:
        Tensors on the CPU, numbers and strings, which ``torch.load(weights_only=True)`` reads.
    """
    version, words, gauss = random.getstate()
    kind, key, position, has_gauss, cached = np.random.get_state()
    used = torch.cuda.is_available() and torch.cuda.is_initialized()
    return dict(
        python=dict(version=version, words=torch.tensor(words), gauss=gauss),
        numpy=dict(
            kind=kind,
            key=torch.from_numpy(key.astype(np.int64)),
            position=int(position),
            has_gauss=int(has_gauss),
            cached=float(cached),
        ),
        torch=torch.default_generator.get_state(),
        cuda=torch.cuda.get_rng_state() if used else None,
    )


def set_random_state(state: dict[str, Any]) -> None:
    """Set the generators.

    Args:
        state: from :func:`get_random_state`, its tensors on any device. Without a GPU, a GPU's part is left out.

    Raises:
        ValueError: it is something else.
    """
    try:
        python, numpy = state['python'], state['numpy']
        words = tuple(python['words'].tolist())
        random.setstate((python['version'], words, python['gauss']))
        key = numpy['key'].cpu().numpy().astype(np.uint32)
        np.random.set_state((numpy['kind'], key, numpy['position'], numpy['has_gauss'], numpy['cached']))
        torch.default_generator.set_state(state['torch'].cpu())
        if state['cuda'] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state['cuda'].cpu())
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise ValueError(f'this is no state of random number generators: {type(error).__name__}: {error}') from error
