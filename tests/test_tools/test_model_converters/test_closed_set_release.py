# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints of TPAVI and CATR: every weight under one name of ours, and nothing else."""

from pathlib import Path

import published
import pytest
import torch
from released.closed_set import convert_closed_set, find_model

tool = published.load_tool('model_converters/closed_set_release.py')
MODELS = dict(tpavi='tpavi_r50', tpavi_pvt='tpavi_pvt-v2-b5', catr='catr_pvt-v2-b5')
CONFIGS = dict(tpavi='1xb4-60e_avss', tpavi_pvt='1xb4-60e_avss', catr='1xb2-100e_s4')


def numbered(name: str) -> dict[str, torch.Tensor]:
    """A checkpoint in which weight i is i everywhere; counters are whole numbers."""
    state = published.published_state(published.shapes(name))
    return {k: v.long() if k.endswith('num_batches_tracked') else v for k, v in state.items()}


def run(state: dict, folder: Path, *options: str) -> dict:
    """Convert a bare state dict; gives the checkpoint."""
    torch.save(state, folder / 'in.pth')
    tool.main([str(folder / 'in.pth'), str(folder / 'out.pth'), *options])
    return torch.load(folder / 'out.pth', weights_only=True)


@pytest.mark.parametrize('name', MODELS)
def test_every_weight_is_converted_and_fits_the_model(name, tmp_path, capsys):
    state = numbered(name)
    assert find_model(state) == MODELS[name]
    content = run(state, tmp_path, '--verbose')
    assert content['meta']['dataset_meta']['classes'][:2] == (
        'background',
        'sounding' if name == 'catr' else 'accordion',
    )
    assert content['meta']['config'] == f'{MODELS[name]}_{CONFIGS[name]}.py'
    printed = capsys.readouterr().out
    listed = {line.split()[1] for line in printed.splitlines() if line.startswith('mapped')}
    assert listed == set(state) and ' 0 dropped, 0 without a place' in printed
    found = [number for value in content['state_dict'].values() for number in value.unique().tolist()]
    assert sorted(found) == list(range(len(state))), 'each weight once'


def test_keys_and_values_of_pvt_follow_its_queries():
    state = numbered('catr')
    prefix = 'encoder_backbone.block2.3.attn.'
    ours = convert_closed_set(state).state['backbone.layers.1.1.3.attn.attn.in_proj_weight']
    assert ours.shape == (3 * 128, 128)
    assert (ours[:128] == state[f'{prefix}q.weight'][0, 0]).all() and (
        ours[128:] == state[f'{prefix}kv.weight'][0, 0]
    ).all()
    del state[f'{prefix}kv.weight']
    with pytest.raises(ValueError, match=r'encoder_backbone.block2.3.attn.kv.weight is missing'):
        convert_closed_set(state)


def test_what_does_not_fit_is_named(tmp_path):
    state = numbered('tpavi')

    def error_of(state: dict, *options: str) -> str:
        torch.save(state, tmp_path / 'in.pth')
        return published.error_of(tool.main, [str(tmp_path / 'in.pth'), str(tmp_path / 'out.pth'), *options])

    assert 'conv9.x' in error_of(state | {'conv9.x': torch.zeros(1)})
    without = {k: v for k, v in state.items() if k != 'tpavi_b2.phi.bias'}
    assert 'decode_head.blocks.1.phi.bias' in error_of(without)
    assert 'no published closed-set model' in error_of({'a': torch.zeros(1)})
    pvt = published.ROOT / 'configs/tpavi/tpavi_pvt-v2-b5_1xb4-60e_avss.py'
    assert 'does not fit tpavi_pvt-v2-b5' in error_of(state, '--config', str(pvt))
    classes = {k: v[:41] if k.startswith('output_conv.4') else v for k, v in state.items()}
    assert 'output_conv.4.weight' in error_of(classes)
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.parametrize(('name', 'count'), [('tpavi', 178), ('catr', 62)])
def test_what_nothing_uses_is_dropped_where_there_is_no_place(name, count, tmp_path, capsys):
    folder = published.ROOT / 'configs'
    base = next(folder.glob(f'{name}/{MODELS[name]}_{CONFIGS[name]}.py'))
    without = dict(tpavi='extra_branch=None, unused_unit=False', catr='unused_positions=None')[name]
    config = tmp_path / 'without.py'
    config.write_text(f"_base_ = ['{base}']\nmodel = dict(decode_head=dict({without}))\n")
    content = run(numbered(name), tmp_path, '--config', str(config))
    assert f'{count} dropped, 0 without a place' in capsys.readouterr().out
    assert not [key for key in content['state_dict'] if '.extra_branch.' in key or '.unused.' in key]


def test_a_checkpoint_of_one_class_is_of_s4(tmp_path):
    """The binary code's aligned sound has a bias too."""
    state = {k: v[:1] if k.startswith('output_conv.4') else v for k, v in numbered('tpavi').items()}
    state |= {f'tpavi_b{i}.align_channel.bias': torch.zeros(256) for i in range(1, 5)}
    assert run(state, tmp_path)['meta']['config'] == 'tpavi_r50_1xb4-15e_s4.py'
