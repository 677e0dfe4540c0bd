# SPDX-License-Identifier: Apache-2.0
"""TPAVI and CATR give what their published code gave."""

import sys
from pathlib import Path

import numpy as np
import pytest

# For `import published` in whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parents[1]))

import published  # noqa: E402

published.load_tool('analysis_tools/check_parity.py')

from parity import catr, tpavi  # noqa: E402  (the tool knows where it is)

INPUTS = {'images', 'audio', 'seed', 'video_flag', 'label_flag', 'labels', 'valid', 'frames_shown', 'bg_shift'}
INPUTS |= {'queries_scale', 'target_masks'}


def build(name: str) -> tuple:
    """A model with drawn weights, its fixture and the comparison."""
    with np.load(published.DATA / f'{name}.npz') as file:
        fixture = {key: file[key] for key in file.files}
    if name == 'catr':
        scale = {'obj_queries.weight': float(fixture['queries_scale'])}
        return tpavi.build_model(catr.CONFIG, published.shapes(name), 0, scale), fixture, catr.check_model
    path = tpavi.PVT if name.endswith('pvt') else tpavi.R50
    return tpavi.build_model(path, published.shapes(name), 0), fixture, tpavi.check_tpavi


def failed(lines: list) -> set[str]:
    """Names of the outputs that differ."""
    return {line.name for line in lines if not line.passed}


@pytest.mark.parametrize('name', ['tpavi', 'tpavi_pvt', 'catr'])
def test_gives_what_the_published_model_gave(name):
    model, fixture, check = build(name)
    lines = check(model, fixture)
    assert {line.name for line in lines} - {'logits of padded frames'} == set(fixture) - INPUTS
    assert failed(lines) == set()
    assert all(line.difference < 1e-4 for line in lines if line.name != 'label_map'), 'far below the bounds'
    if name == 'tpavi_pvt':  # of the three the quickest
        outputs = set(fixture) - INPUTS
        altered = {k: v + 1 if k in outputs and v.dtype == np.uint8 else v for k, v in fixture.items()}
        altered = {k: v + np.float32(2e-2) if k in outputs and v.dtype != np.uint8 else v for k, v in altered.items()}
        assert failed(check(model, altered)) == outputs
        model.decode_head.relu_residual = False
        assert failed(check(model, fixture)) >= {'loss_avm', 'loss_total'}
