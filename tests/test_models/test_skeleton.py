# SPDX-License-Identifier: Apache-2.0
import pytest
import tiny_model
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS

from ovavss_mm.models.skeleton import build_skeleton, read_config

PRETRAINED = dict(type='Pretrained', checkpoint='no/such/file.pth')


def test_skeleton_has_the_names_and_shapes_of_the_model_without_its_memory():
    config = tiny_model.tiny_config()
    model, skeleton = MODELS.build(config), build_skeleton(config)
    real, bare = model.state_dict(), skeleton.state_dict()
    assert {k: v.shape for k, v in real.items()} == {k: v.shape for k, v in bare.items()}
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in skeleton.parameters()]
    assert all(value.is_meta == value.is_floating_point() for value in bare.values())


def test_index_buffers_are_those_of_the_model():
    config = ConfigDict(type='SwinTransformer', embed_dims=8, depths=[2], num_heads=[2], strides=[4], out_indices=[0])
    real, bare = (build(config).state_dict() for build in (MODELS.build, build_skeleton))
    (key,) = {key for key in real if key.endswith('blocks.1.attn.w_msa.relative_position_index')}
    assert torch.equal(real[key], bare[key])


def test_frozen_weights_are_in_the_state_dict_and_no_file_is_read():
    config = tiny_model.tiny_config(classifier=dict(init_cfg=PRETRAINED))
    assert not any(key.startswith('classifier') for key in MODELS.build(config).state_dict())
    assert any(key.startswith('classifier.clip_model') for key in build_skeleton(config).state_dict())
    assert config.classifier.init_cfg == PRETRAINED, 'the config of the caller is not touched'


def test_nothing_is_different_afterwards():
    build_skeleton(tiny_model.tiny_config())
    assert torch.empty(1).device.type == 'cpu'


def test_missing_config_is_named():
    with pytest.raises(FileNotFoundError, match='there is no config gone.py'):
        read_config('gone.py')


def test_options_change_the_config(tmp_path):
    path = tmp_path / 'a.py'
    path.write_text('model = dict(a=1)')
    assert read_config(str(path), {'model.a': 2}).model.a == 2
