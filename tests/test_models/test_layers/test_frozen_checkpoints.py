# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the real models: without VGGish and CLIP, or with them, as a published one has."""

import logging
from types import SimpleNamespace

import published
import pytest
import tiny_model
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from released.checkpoints import fit
from released.keys import convert

from ovavss_mm.engine.hooks import StrictCheckpointHook
from ovavss_mm.models import skeleton

FROZEN = ('audio_encoder.', 'classifier.')


def build(backbone: str):
    """The released model as its config has it, without memory."""
    path = published.ROOT / f'configs/ovavss/ovavss_{backbone}_release.py'
    with skeleton._WithoutMemory(), DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(Config.fromfile(path).model)


def check(model, state: dict, **meta) -> None:
    """Have the hook compare a checkpoint with a model."""
    runner = SimpleNamespace(model=model, logger=logging.getLogger('test'))
    StrictCheckpointHook().after_load_checkpoint(runner, dict(state_dict=state, meta=meta))


@pytest.fixture(scope='module')
def r50():
    return build('r50')


@pytest.fixture(scope='module')
def converted() -> dict:
    """A published R50 checkpoint, converted."""
    state = published.published_state(published.real_shapes('r50'))
    path = published.ROOT / 'configs/ovavss/ovavss_r50_release.py'
    model = skeleton.build_skeleton(Config.fromfile(path).model)
    return fit(convert(state), model)


@pytest.mark.parametrize(('backbone', 'trainable'), [('r50', 183.6), ('swin-b', 423.7)])
def test_checkpoints_are_as_large_as_what_is_trained(backbone, trainable):
    state = build(backbone).state_dict()
    assert not [key for key in state if key.startswith(FROZEN)]
    sizes = [v.numel() * v.element_size() for v in state.values()]
    # and frozen norms, statistics and index buffers
    assert trainable < sum(sizes) / 2**20 < trainable + 4


def test_own_checkpoint_and_converted_one_both_fit(r50, converted):
    own = r50.state_dict()
    check(r50, own)
    check(r50, converted)
    assert len(converted) > len(own) and {k for k in converted if not k.startswith(FROZEN)} == set(own)


@pytest.mark.parametrize('prefix', FROZEN)
def test_a_part_of_a_frozen_module_is_refused_all_or_nothing_is_fine(r50, converted, prefix):
    keys = [key for key in converted if key.startswith(prefix)]
    check(r50, {k: v for k, v in converted.items() if k not in keys})
    with pytest.raises(ValueError, match=f'1 in the model but not in the checkpoint: {keys[3]}'):
        check(r50, {k: v for k, v in converted.items() if k != keys[3]})


def test_wrong_backbone_is_refused(converted):
    with pytest.raises(ValueError, match='backbone.patch_embed'):
        check(build('swin-b'), converted)


# ------------------------------------------------------------------ loading, on a small model
@pytest.fixture
def clip_file(tmp_path) -> str:
    """CLIP's weights as a file of their own."""
    clip = tiny_model.tiny_model().classifier.clip_model
    path = tmp_path / 'clip.pth'
    torch.save({k: torch.randn_like(v) for k, v in clip.state_dict().items()}, path)
    return str(path)


@pytest.fixture
def small(clip_file):
    """Function that builds the model with CLIP from the file."""
    init_cfg = dict(type='Pretrained', checkpoint=clip_file)
    return lambda: tiny_model.tiny_model(classifier=dict(init_cfg=init_cfg))


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_small_checkpoint_gives_the_model_back(small, clip_file, tmp_path):
    model = small()
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'own.pth')
    own = torch.load(tmp_path / 'own.pth', weights_only=True)['state_dict']
    again = small()
    again.load_state_dict(own, strict=True)
    assert same(again.state_dict(), model.state_dict())
    assert same(again.classifier.clip_model.state_dict(), torch.load(clip_file, weights_only=True))


def test_checkpoint_with_frozen_weights_is_loaded_as_it_is(small, clip_file):
    stored = tiny_model.tiny_model()  # no file: everything is in the checkpoint
    model = small()
    model.load_state_dict(stored.state_dict(), strict=True)
    assert same(model.classifier.clip_model.state_dict(), stored.classifier.clip_model.state_dict())


def test_part_of_the_frozen_weights_is_not_loaded(small):
    state = tiny_model.tiny_model().state_dict()
    del state['classifier.clip_model.visual.proj']
    with pytest.raises(RuntimeError, match=r'Missing key.*classifier\.clip_model\.visual\.proj'):
        small().load_state_dict(state, strict=True)
    with pytest.raises(ValueError, match=r'classifier\.clip_model\.visual\.proj'):
        check(small(), state)
