# SPDX-License-Identifier: Apache-2.0
"""Configs of OV2Seg: their sizes, and two iterations of each."""

import sys
from copy import deepcopy
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

# For `import tiny_model` in whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parent))

import tiny_model  # noqa: E402
from two_iterations import run_two_iterations  # noqa: E402

from ovavss_mm.engine.parameters import count_parameters, mebibytes  # noqa: E402
from ovavss_mm.models.skeleton import build_skeleton, read_config  # noqa: E402

FOLDER = tiny_model.ROOT / 'configs'
MAIN = FOLDER / 'ov2seg/ov2seg_r50_1xb1-82k_avsbench-ov.py'
MINI = FOLDER / 'mini/ov2seg_mini.py'


@pytest.fixture(autouse=True, scope='module')
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def test_sizes_of_the_papers_row():
    model = build_skeleton(read_config(str(MAIN)).model)
    trained = count_parameters(model)['all'].trainable
    text = sum(p.numel() for p in model.classifier.clip_model.transformer.parameters())
    assert (trained, trained + text) == (39476866, 77305474)
    assert (round(mebibytes(trained), 3), round(mebibytes(trained + text), 3)) == (150.592, 294.897)


def small(path: Path) -> Config:
    """The config with small numbers."""
    config = Config.fromfile(path)
    numbers = deepcopy(tiny_model.SMALL)
    numbers.pop('audio_encoder')
    numbers['neck'].pop('fusion')
    numbers['decode_head']['text_channels'] = 16
    numbers['classifier']['type'] = 'TextSpaceClassifier'
    numbers['backbone']['init_cfg'] = None
    config.merge_from_dict(dict(model=numbers))
    return config


@pytest.mark.parametrize('path', [MAIN, MINI], ids=lambda path: path.stem)
def test_recipe_trains_for_two_iterations_and_is_evaluated(path, tmp_path):
    changed, logged = run_two_iterations(small(path) if path == MAIN else Config.fromfile(path), tmp_path)
    assert changed == {'backbone', 'neck', 'decode_head'}, 'the text tower stays as it is'
    assert {'train/decode.loss_name', 'val/mIoU'} <= logged
