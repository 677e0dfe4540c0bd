# SPDX-License-Identifier: Apache-2.0
"""OpenVIS gives what its published code gave."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

# For `import published` in whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parents[1]))

import published  # noqa: E402

published.load_tool('analysis_tools/check_parity.py')

from parity import openvis  # noqa: E402  (the tool knows where it is)
from parity.ovavss import build_model  # noqa: E402

INPUTS = {'seed', 'images', 'region_index', 'paint_threshold', 'named/mask_logits', 'guided/mask_logits'}


@pytest.fixture(scope='module')
def fixture() -> dict[str, np.ndarray]:
    with np.load(published.DATA / 'openvis.npz') as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope='module')
def model(fixture) -> torch.nn.Module:
    """The model with drawn weights, converted from a published checkpoint."""
    return build_model(openvis.CONFIG, published.openvis_shapes(), 0, fixture)


@pytest.fixture(scope='module')
def outputs(fixture) -> set[str]:
    return {name for name in set(fixture) - INPUTS if not name.startswith('weight/')}


def failed(lines: list) -> set[str]:
    """Names of the outputs that differ."""
    return {line.name for line in lines if not line.passed}


def test_gives_what_the_published_model_gave(model, fixture, outputs):
    lines = openvis.check_model(model, fixture)
    assert {line.name for line in lines} == outputs and len(lines) == len(outputs) == 32
    assert failed(lines) == set()
    similarities = {'similarity', 'named/similarity', 'guided/logits', 'regions'}  # times 100, or of 255
    assert all(line.difference < 1e-4 for line in lines if line.name not in similarities), 'far below the bounds'


def test_every_altered_output_is_noticed(model, fixture, outputs):
    altered = dict(fixture)
    for name in outputs:
        value = fixture[name].copy()
        if value.dtype.kind == 'f':
            value += np.float32(2e-2)
        else:
            some = slice(0, max(1, value.size // 100))
            value.flat[some] = value.flat[some].astype(int) ^ 1
        altered[name] = value
    assert failed(openvis.check_model(model, altered)) == outputs


@pytest.mark.parametrize(
    ('key', 'value', 'at_least'), [('anchor', 'center', {'regions'}), ('mask_size', 'image', set())]
)
def test_other_settings_give_something_else(model, fixture, monkeypatch, key, value, at_least):
    monkeypatch.setattr(model.classifier, key, value)
    assert failed(openvis.check_model(model, fixture)) >= at_least | {'image_embeds', 'query_probs'}


def test_a_query_of_fifty_may_differ():
    theirs = np.zeros((1, 100, 5, 2, 2), dtype=np.float32)
    for count, passes in ((2, True), (3, False)):
        ours = torch.zeros(1, 100, 5, 2, 2)
        ours[:, :count, :, 0, 0] = 0.1
        line = openvis._compare_queries('pred_masks', ours, theirs, 2)
        assert line.passed == passes and 'largest difference 1.0e-01' in line.unit
