# SPDX-License-Identifier: Apache-2.0
"""GAVS gives what its published code gave."""

import sys
from pathlib import Path

import numpy as np
import pytest

# For `import published` in whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parents[1]))

import published  # noqa: E402

published.load_tool('analysis_tools/check_parity.py')

from parity import gavs  # noqa: E402  (the tool knows where it is)

INPUTS = {'images', 'audio', 'target', 'seed', 'input_size', 'grad_norm', 'trainable'}


@pytest.fixture(scope='module')
def fixture() -> dict[str, np.ndarray]:
    with np.load(published.DATA / 'gavs.npz') as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope='module')
def built(fixture) -> tuple:
    return gavs.build_model(fixture, published.shapes('gavs'))


def failed(lines: list) -> set[str]:
    """Names of the outputs that differ."""
    return {line.name for line in lines if not line.passed}


def test_gives_what_the_published_model_gave(fixture, built):
    model, names = built
    lines = gavs.check_model(model, fixture, names)
    assert {line.name.split(',')[0] for line in lines} >= set(fixture) - INPUTS | {'grad_norm', 'trainable'}
    assert failed(lines) == set()
    assert all(line.difference < 2e-5 for line in lines if line.name != 'resized'), 'far below the bounds'
    outputs = set(fixture) - INPUTS - {'resized'}
    altered = {key: value + value.dtype.type(2e-2) if key in outputs else value for key, value in fixture.items()}
    assert {name.split(',')[0] for name in failed(gavs.check_model(model, altered, names))} == outputs


def test_the_order_of_channels_the_adapters_and_what_trains_matter(fixture, built):
    model, names = built
    preprocessor, block = model.data_preprocessor, model.sam.model.vision_encoder.layers[2]
    preprocessor._channel_conversion = False
    assert 'block_0' in failed(gavs.check_model(model, fixture, names))
    preprocessor._channel_conversion = True
    block.mlp.used = False
    assert failed(gavs.check_model(model, fixture, names)) >= {'block_2', 'masks'}
    block.mlp.used = True
    block.layer_norm1.requires_grad_(True)
    assert failed(gavs.check_model(model, fixture, names)) == {'trainable'}
    block.layer_norm1.requires_grad_(False)
