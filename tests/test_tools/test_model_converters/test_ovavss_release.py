# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import published
import pytest
import torch

tool = published.load_tool('model_converters/ovavss_release.py')
BACKBONES = ['r50', 'swin-b']
RELEASE = {name: f'configs/ovavss/ovavss_{name}_release.py' for name in BACKBONES}


@pytest.fixture(scope='module')
def real() -> dict:
    """Published checkpoints with the CLIP that they have."""
    return {name: published.published_state(published.real_shapes(name)) for name in BACKBONES}


@pytest.fixture
def convert(tmp_path):
    """Function that converts a state dict, and returns the arguments of the tool."""

    def arguments(state: dict, *options: str) -> list[str]:
        source = published.save(state, tmp_path / 'in.pth')
        return [source, str(tmp_path / 'out.pth'), *options]

    return arguments


@pytest.mark.parametrize('backbone', BACKBONES)
def test_converted_checkpoint_has_every_weight_under_our_name(real, convert, backbone, capsys):
    args = convert(real[backbone])
    tool.main(args)
    content = torch.load(args[1], weights_only=True)
    printed = capsys.readouterr().out
    assert 'note' not in printed, 'it is the CLIP of the release config'
    count = len(real[backbone]) - (3 if backbone == 'r50' else 27)
    assert f'{count} keys mapped, ' in printed and ', 0 without a place' in printed
    assert 'dropped  criterion.empty_weight: a constant of the loss' in printed
    assert 'mapped   ' not in printed
    assert content['meta']['backbone'] == backbone
    state = content['state_dict']
    # a weight is its place in the published file everywhere
    numbers = {int(value.flatten()[0]) for key, value in state.items() if value.is_floating_point()}
    assert len(numbers) == count
    assert state['classifier.clip_model.visual.proj'].flatten()[0] == list(real[backbone]).index(
        'clip_adapter.clip_model.visual.proj'
    )
    assert all(not value.is_meta for value in state.values())
    assert os.listdir(Path(args[1]).parent).count('out.pth') == 1


def test_verbose_lists_every_key(convert, capsys):
    state = published.published_state(published.shapes('r50'))
    tool.main(convert(state, '--verbose'))
    printed = capsys.readouterr().out.splitlines()
    listed = {line.split()[1].rstrip(':') for line in printed if line.startswith(('mapped', 'dropped'))}
    assert listed == set(state)
    assert 'mapped   backbone.stem.conv1.weight -> backbone.conv1.weight' in printed


def test_another_clip_is_noted_and_converted_unless_a_config_is_given(convert, capsys):
    state = published.published_state(published.shapes('r50'))
    args = convert(state)
    tool.main(args)
    clip = torch.load(args[1], weights_only=True)['meta']['clip']
    assert clip['vision_cfg'] == dict(image_size=32, patch_size=8, width=64, layers=2)
    assert f'model.classifier.clip_model={clip}' in capsys.readouterr().out
    os.remove(args[1])
    error = published.error_of(tool.main, [*args, '--config', str(published.ROOT / RELEASE['r50'])])
    assert 'clip_adapter.clip_model.' in error and '(77, 64)' in error
    assert not os.path.exists(args[1])


def test_clip_in_half_precision_is_converted(convert):
    state = published.published_state(published.shapes('r50'))
    args = convert({k: v.half() if k.startswith('clip') else v for k, v in state.items()})
    tool.main(args)
    state = torch.load(args[1], weights_only=True)['state_dict']
    assert {v.dtype for v in state.values()} == {torch.float32, torch.int64}


# ------------------------------------------------------------------ bad input
QUERY = 'sem_seg_head.predictor.query_feat.weight'


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({QUERY: torch.zeros(100, 256).half()}, rf'{QUERY} \(100, 256\) is torch.float16'),
        ({QUERY: torch.zeros(100, 128)}, r'query_feat.weight is \(100, 128\), expected \(100, 256\)'),
        ({QUERY: torch.full((100, 256), float('nan'))}, rf'{QUERY} \(100, 256\) has values'),
        ({QUERY: None}, '1 missing: decode_head.query_feat.weight'),
        ({'odd.weight': torch.zeros(2)}, 'odd.weight: no rule knows this name'),
        (
            {'backbone.res2.9.conv1.weight': torch.zeros(2)},
            '1 unexpected: backbone.layer1.9.conv1.weight; in the file, .* is backbone.res2.9.conv1.weight',
        ),
        ({'audio_encoder.audio_backbone.features.0.weight': None}, '1 missing: audio_encoder'),
        ({'backbone.stem.conv1.weight': None}, 'no backbone known'),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(real, convert, changes, message):
    state = {k: v for k, v in {**real['r50'], **changes}.items() if v is not None}
    args = convert(state)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(published.error_of(tool.main, args))
    assert os.listdir(Path(args[1]).parent) == ['in.pth']


@pytest.mark.parametrize('backbone', BACKBONES)
def test_config_of_another_backbone_is_refused(real, convert, backbone):
    (other,) = set(BACKBONES) - {backbone}
    args = convert(real[backbone], '--config', str(published.ROOT / RELEASE[other]))
    error = published.error_of(tool.main, args)
    assert f'does not fit ovavss_{other}_release.py' in error
    assert 'backbone.' in error and ' (' in error, 'a key and its shape'
    assert os.listdir(Path(args[1]).parent) == ['in.pth']


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    whole, target = tmp_path / 'a.pth', str(tmp_path / 'out.pth')
    published.save({'a': torch.ones(5000)}, whole)
    cut = tmp_path / 'cut.pth'
    cut.write_bytes(whole.read_bytes()[:10000])
    text = tmp_path / 'text.pth'
    text.write_text('no checkpoint')
    assert 'cannot be read as a checkpoint' in published.error_of(tool.main, [str(cut), target])
    assert 'cannot be read as a checkpoint' in published.error_of(tool.main, [str(text), target])
    assert 'no weights at gone.pth' in published.error_of(tool.main, ['gone.pth', target])
    assert 'choose another name' in published.error_of(tool.main, [str(whole), str(whole)])
    assert not os.path.exists(target)


def test_missing_config_is_named(real, convert):
    args = convert(real['r50'], '--config', 'gone.py')
    assert 'there is no config gone.py' in published.error_of(tool.main, args)


# ------------------------------------------------------------------ OpenVIS
OPENVIS = published.ROOT / 'configs/openvis/openvis_r50_clip-vit-b32_1xb1-82k_avsbench-ov.py'


def test_openvis_is_told_from_a_file_without_sound(convert, capsys):
    """Its names are those of OV-AVSS; layers and CLIP of the file are noted where they are not the config's."""
    shapes = published.openvis_shapes()
    args = convert(published.published_state(shapes))
    tool.main(args)
    printed = capsys.readouterr().out
    assert 'to be used with openvis_r50_clip-vit-b32_1xb1-82k_avsbench-ov.py' in printed
    assert 'num_layers' not in printed and 'model.classifier.clip_model=' in printed
    content = torch.load(args[1], weights_only=True)
    assert content['meta']['source'] == 'published OpenVIS'
    floats = [key for key, value in content['state_dict'].items() if value.is_floating_point()]
    assert len(floats) == len(shapes) - 3, 'all but constants'

    ninth = {k.replace('.5.', '.6.', 1): v for k, v in shapes.items() if 'predictor.transformer_' in k and '.5.' in k}
    args = convert(published.published_state(shapes | ninth))
    tool.main(args)
    assert 'model.decode_head.transformer_decoder.num_layers=7' in capsys.readouterr().out
    error = published.error_of(tool.main, [*args, '--config', str(OPENVIS)])
    assert 'does not fit' in error and 'layers.6.' in error
