# SPDX-License-Identifier: Apache-2.0
import os

import pytest
import torch
from released import checkpoints
from released.checkpoints import CheckpointError, clip_config
from released.keys import Conversion
from torch import nn

from ovavss_mm.models.skeleton import build_skeleton


# ------------------------------------------------------------------ backbone
def test_backbone_is_told_from_names():
    r50, swin = checkpoints.BACKBONES.values()
    assert checkpoints.find_backbone([r50, 'x']) == 'r50'
    assert checkpoints.find_backbone([swin, 'x']) == 'swin-b'
    for keys in ([], ['x'], [r50, swin]):
        with pytest.raises(CheckpointError, match='exactly one must be there'):
            checkpoints.find_backbone(keys)


# ------------------------------------------------------------------ values
CLIP = 'clip_adapter.clip_model.visual.proj'


def test_clip_in_half_precision_is_converted():
    half = torch.randn(3).half()
    (value,) = checkpoints.check_values({CLIP: half}).values()
    assert value.dtype == torch.float32 and torch.equal(value.half(), half)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_other_precisions_are_refused_with_key_and_shape(dtype):
    state = {'a': torch.ones(1), 'backbone.x': torch.ones(2, 3).to(dtype)}
    with pytest.raises(CheckpointError, match=rf'backbone\.x \(2, 3\) is {dtype}'):
        checkpoints.check_values(state)
    assert checkpoints.check_values(state, skip=['backbone.x']).keys() == state.keys()


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_broken_values_are_refused_with_key_and_shape(value):
    with pytest.raises(CheckpointError, match=r'b \(2,\) has values that are not finite'):
        checkpoints.check_values({'a': torch.ones(1), 'b': torch.tensor([1, value])})


# ------------------------------------------------------------------ fitting
@pytest.fixture
def model() -> nn.Module:
    """A layer and a batch norm with its counter."""
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def conversion(model: nn.Module, **changes) -> Conversion:
    """The model's weights under published names; a change of None leaves one out."""
    state = {k: v for k, v in model.state_dict().items() if 'batches' not in k}
    state = {k: v for k, v in {**state, **changes}.items() if v is not None}
    return Conversion(state, {f'their.{key}': key for key in state}, {}, {})


def test_weights_are_completed_with_what_the_model_computes(model):
    state = checkpoints.fit(conversion(model), model)
    assert state.keys() == model.state_dict().keys()
    assert state['1.num_batches_tracked'] == 0
    model.load_state_dict(state, strict=True)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'0.weight': torch.ones(3, 5)},
            r'1 of another shape: 0\.weight is \(3, 5\), expected \(3, 2\).*is their\.0\.weight',
        ),
        ({'0.bias': None}, '1 missing: 0.bias$'),
        ({'2.bias': torch.ones(4)}, r'1 unexpected: 2\.bias; in the file, 2\.bias is their\.2\.bias'),
    ],
)
def test_what_does_not_fit_is_named_with_shapes(model, changes, message):
    with pytest.raises(CheckpointError, match=message) as error:
        checkpoints.fit(conversion(model, **changes), model, what='a.py')
    assert 'does not fit a.py: 1 ' in str(error.value) and '\n' not in str(error.value)


def test_names_without_a_place_are_refused(model):
    bad = {f'x{i}': 'why' for i in range(7)}
    with pytest.raises(CheckpointError, match='7 keys have no place: x0: why; .*and 2 more'):
        checkpoints.fit(conversion(model)._replace(unplaced=bad), model)


def test_only_what_may_be_fresh_may_be_missing(model):
    bare = conversion(model, **{'0.bias': None, '0.weight': None})
    assert '0.bias' not in checkpoints.fit(bare, model, fresh=[r'0\.'])
    with pytest.raises(CheckpointError, match=r'missing: 0\.weight'):
        checkpoints.fit(bare, model, fresh=[r'0\.bias', r'x\.0'])


# ------------------------------------------------------------------ writing
def test_written_checkpoint_is_loaded_safely(tmp_path):
    path = tmp_path / 'out.pth'
    checkpoints.write_checkpoint(str(path), {'a': torch.ones(2)}, dict(clip=dict(embed_dim=3)))
    loaded = torch.load(path, weights_only=True)
    assert loaded['meta'] == dict(clip=dict(embed_dim=3)) and loaded['state_dict']['a'].sum() == 2
    assert os.listdir(tmp_path) == ['out.pth']


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / 'out.pth'
    path.write_text('old')

    def fail(content, beside):
        open(beside, 'w').write('half')
        raise OSError('disk full')

    monkeypatch.setattr(torch, 'save', fail)
    with pytest.raises(CheckpointError, match=r'cannot write .*out\.pth: disk full'):
        checkpoints.write_checkpoint(str(path), {}, {})
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['out.pth']


def test_output_is_checked_before_the_work(tmp_path):
    source = tmp_path / 'in.pth'
    source.write_text('x')
    checkpoints.check_output(str(source), str(tmp_path / 'out.pth'))
    for target, message in (
        (tmp_path / 'no/out.pth', 'there is no folder'),
        (tmp_path, 'is a folder'),
        (source, 'choose another name'),
    ):
        with pytest.raises(CheckpointError, match=message):
            checkpoints.check_output(str(source), str(target))


# ------------------------------------------------------------------ CLIP
def test_clip_is_told_from_its_weights():
    tiny = dict(
        embed_dim=8,
        vision_cfg=dict(image_size=24, patch_size=8, width=64, layers=3),
        text_cfg=dict(context_length=9, vocab_size=50, width=64, heads=1, layers=2),
        quick_gelu=True,
    )
    model = build_skeleton(dict(type='mmseg.CLIPSquareCropClassifier', clip_model=tiny))
    assert clip_config(model.state_dict(), 'clip_model.') == tiny
    with pytest.raises(CheckpointError, match=r'visual\.conv1\.weight is missing'):
        clip_config(model.state_dict())
