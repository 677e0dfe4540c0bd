# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that do not fit are refused, with the keys named."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import nn

import ovavss_mm  # noqa: F401
from ovavss_mm.engine.hooks import StrictCheckpointHook
from ovavss_mm.utils.safe_loading import CheckpointError


class Frozen(nn.Module):
    """A module that keeps its weights out of state dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 2)
        self._register_state_dict_hook(self._drop)

    @staticmethod
    def _drop(module, state, prefix, _):
        for key in [k for k in state if k.startswith(prefix)]:
            del state[key]


class Model(nn.Module):
    """A trained part, a frozen part, a persistent and a non-persistent buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)
        self.audio_encoder = Frozen()
        self.register_buffer('seen', torch.zeros(2))
        self.register_buffer('mean', torch.zeros(2), persistent=False)


def check(state, meta=None, model=None, **kwargs) -> None:
    """Run the hook on a checkpoint."""
    runner = SimpleNamespace(model=model or Model(), logger=logging.getLogger('strict-test'))
    checkpoint = dict(state_dict=state) if meta is None else dict(state_dict=state, meta=meta)
    StrictCheckpointHook(**kwargs).after_load_checkpoint(runner, checkpoint)


def test_fitting_checkpoints_pass():
    state = Model().state_dict()
    assert set(state) == {'head.weight', 'head.bias', 'seen'}
    check(state)
    check({f'module.{key}': value for key, value in state.items()})
    runner = SimpleNamespace(model=Model())
    StrictCheckpointHook().after_load_checkpoint(runner, state)  # without a 'state_dict' around it


def test_frozen_weights_may_come_along_but_whole():
    state = Model().state_dict()
    state['audio_encoder.net.weight'] = torch.zeros(2, 2)
    with pytest.raises(CheckpointError, match=r'1 in the model.*: audio_encoder\.net\.bias'):
        check(state)
    state['audio_encoder.net.bias'] = torch.zeros(2)
    check(state)
    state['audio_encoder.net.bias'] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r'audio_encoder\.net\.bias is \(3,\), expected \(2,\)'):
        check(state)


def test_missing_unexpected_and_misshapen_keys_are_named_with_counts():
    state = Model().state_dict()
    del state['head.bias']
    state['head.weight'] = torch.zeros(4, 9)
    for i in range(8):
        state[f'other.{i}'] = torch.zeros(1)
    with pytest.raises(CheckpointError) as caught:
        check(state)
    text = str(caught.value)
    assert '1 in the model but not in the checkpoint: head.bias' in text
    assert '8 in the checkpoint but not in the model: other.0, ' in text
    assert 'and 3 more' in text and 'other.7' not in text
    assert '1 of another shape: head.weight is (4, 9), expected (4, 3)' in text


def test_non_persistent_buffers_are_unexpected():
    with pytest.raises(CheckpointError, match='not in the model: mean'):
        check({**Model().state_dict(), 'mean': torch.zeros(2)})


def test_allowed_patterns_excuse_missing_keys_only():
    state = Model().state_dict()
    del state['head.bias'], state['head.weight']
    check(state, allow_missing=[r'head\.'])
    with pytest.raises(CheckpointError, match=r'head\.weight'):
        check(state, allow_missing=[r'head\.bias'])
    with pytest.raises(CheckpointError, match=r'head\.extra'):
        check({**state, 'head.extra': torch.zeros(1)}, allow_missing=[r'head\.'])


def test_starting_from_another_model_needs_its_differences_named():
    """Each kind is allowed by its own option; what differs in shape keeps its initial values."""
    state = {**Model().state_dict(), 'neck.old': torch.zeros(1), 'head.weight': torch.zeros(4, 9)}
    state['seen'] = torch.ones(2)
    with pytest.raises(CheckpointError, match=r'not in the model: neck\.old'):
        check(dict(state), allow_shape=[r'head\.'])
    with pytest.raises(CheckpointError, match=r'head\.weight is \(4, 9\)') as caught:
        check(dict(state), allow_unexpected=[r'neck\.'])
    assert 'allow_shape=' in str(caught.value) and 'neck.old' not in str(caught.value)
    model = Model()
    before = model.head.weight.clone()
    check(state, allow_unexpected=[r'neck\.'], allow_shape=[r'head\.weight'])
    model.load_state_dict(state, strict=False)
    assert torch.equal(model.head.weight, before) and model.seen.sum() == 2


def test_partial_initialisation_logs_what_is_missing(caplog):
    state = dict(seen=torch.zeros(2))
    with caplog.at_level(logging.INFO, logger='strict-test'):
        check(state, meta=dict(ovavss_init=True))
    assert '2 keys' in caplog.text and 'head.weight' in caplog.text
    with pytest.raises(CheckpointError, match=r'head\.weight'):
        check(state, meta=dict(ovavss_init=False))
    with pytest.raises(CheckpointError, match='not in the model: typo'):
        check({**state, 'typo': torch.zeros(1)}, meta=dict(ovavss_init=True))


def test_wrapped_models_are_compared_unwrapped():
    wrapped, state = nn.DataParallel(Model()), Model().state_dict()
    check(state, model=wrapped)
    with pytest.raises(CheckpointError, match='in the model but not in the checkpoint'):
        check(dict(list(state.items())[1:]), model=wrapped)


@pytest.mark.parametrize('checkpoint', [[1, 2], dict(epoch=3), dict(state_dict={})])
def test_files_without_weights_are_refused(checkpoint):
    with pytest.raises(CheckpointError, match='no state dict'):
        StrictCheckpointHook().after_load_checkpoint(SimpleNamespace(model=Model()), checkpoint)


def test_bad_patterns_are_refused():
    with pytest.raises(ValueError, match=r'bad pattern.*\(head'):
        StrictCheckpointHook(allow_missing=['(head'])
    with pytest.raises(TypeError, match='sequence'):
        StrictCheckpointHook(allow_shape='head')


def test_runner_refuses_a_file_before_the_model_changes(tmp_path):
    model = Model()
    before = model.head.weight.clone()
    runner = Runner(
        model=model,
        work_dir=str(tmp_path),
        custom_hooks=[HOOKS.build(dict(type='StrictCheckpointHook'))],
        experiment_name='strict',
        default_scope='mmseg',
        log_level='ERROR',
    )
    state = {**Model().state_dict(), 'stray': torch.zeros(1)}
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'bad.pth')
    with pytest.raises(CheckpointError, match='stray'):
        runner.load_checkpoint(str(tmp_path / 'bad.pth'))
    assert torch.equal(model.head.weight, before)
    del state['stray']
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'good.pth')
    runner.load_checkpoint(str(tmp_path / 'good.pth'))
    assert torch.equal(model.head.weight, state['head.weight'])
