# SPDX-License-Identifier: Apache-2.0
"""A tiny drawn model on disk, and an inferencer for it: fixtures for a ``conftest.py`` to import."""

import pytest
import tiny_model
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from ovavss_mm.apis import AVSegInferencer

PIPELINE = [
    dict(type='SampleClipFrames', num_frames=None),
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAudio'),
    dict(type='ResizeClip', short_side=32),
    dict(type='LoadClipLabels'),
    dict(type='PackAVSegInputs'),
]


@pytest.fixture(scope='session')
def tiny(tmp_path_factory) -> tuple[Config, str]:
    """Config and checkpoint of a model that finds something everywhere, of five names and more."""
    init_default_scope('mmseg')
    torch.manual_seed(3)
    config = tiny_model.tiny_config()
    config.classifier.sound_thr = None
    config.test_cfg.score_thr = 0.0
    config = Config(dict(model=config, test_dataloader=dict(dataset=dict(pipeline=PIPELINE))))

    model = tiny_model.draw_weights(MODELS.build(config.model))
    tiny_model.give_masks_edges(model.decode_head)
    path = tmp_path_factory.mktemp('tiny') / 'tiny.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict()), path)
    return config, str(path)


@pytest.fixture(scope='session')
def inferencer(tiny) -> AVSegInferencer:
    """The tiny model, ready."""
    return AVSegInferencer(tiny[0], tiny[1], device='cpu', show_progress=False)
