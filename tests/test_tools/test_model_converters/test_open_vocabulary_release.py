# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints of OV2Seg and CLIP-VIS: every weight under one name of ours, and nothing else."""

from pathlib import Path

import open_clip
import published
import pytest
import torch
from released.open_vocabulary import SYSTEMS, find_system

tool = published.load_tool('model_converters/open_vocabulary_release.py')
FILES = {'OV2Seg': 'ov2seg', 'CLIP-VIS': 'clip_vis'}


def numbered(system: str, real_clip: bool = True) -> dict[str, torch.Tensor]:
    """A checkpoint in which weight i is i everywhere; counters are whole numbers."""
    shapes, clip = published.shapes(FILES[system]), SYSTEMS[system].clip
    if clip and real_clip:
        with torch.device('meta'):
            model = open_clip.CLIP(**open_clip.get_model_config('RN50-quickgelu')).state_dict()
        shapes = {k: v for k, v in shapes.items() if not k.startswith(clip)}
        shapes |= {f'{clip}{k}': list(v.shape) for k, v in model.items()}
    state = published.published_state(shapes)
    return {k: v.long() if k.endswith('num_batches_tracked') else v for k, v in state.items()}


def run(state: dict, folder: Path, *options: str) -> dict:
    """Convert a published checkpoint; gives ours."""
    source = published.save(state, folder / 'in.pth')
    tool.main([source, str(folder / 'out.pth'), *options])
    return torch.load(folder / 'out.pth', weights_only=True)


@pytest.mark.parametrize('system', FILES)
def test_every_weight_is_converted_and_fits_the_model(system, tmp_path, capsys):
    state = numbered(system)
    assert find_system(state) == system
    content = run(state, tmp_path, '--verbose')
    assert content['meta'] == dict(source=f'published {system}', config=Path(SYSTEMS[system].config).name)
    printed = capsys.readouterr().out
    assert 'not quite' not in printed and ' 0 without a place' in printed
    listed = [[line.split()[1].rstrip(':') for line in printed.splitlines() if line.startswith(x)] for x in LISTS]
    assert sorted(sum(listed, [])) == sorted(state)
    assert all('criterion' in key or 'zs_weight' in key for key in listed[1])
    kept = {list(state).index(key) for key in listed[0]}
    found = [number for value in content['state_dict'].values() for number in value.unique().tolist()]
    assert sorted(found) == sorted(kept), 'each weight once'


LISTS = ('mapped', 'dropped')


@pytest.mark.parametrize('system', FILES)
def test_another_clip_and_another_depth_are_told(system, tmp_path, capsys):
    state = numbered(system, real_clip=False)
    state = {k: v for k, v in state.items() if '_layers.5.' not in k or 'transformer_' not in k}
    if system == 'CLIP-VIS':  # layers are counted from 0
        state = {k: v for k, v in state.items() if 'transformer_' not in k or k.split('.')[3] not in '678'}
    content = run(state, tmp_path)
    printed = capsys.readouterr().out
    assert 'model.decode_head.transformer_decoder.num_layers=5' in printed
    assert ('model.classifier.clip_model={' in printed) == (system == 'CLIP-VIS')
    layers = {key.split('.')[3] for key in content['state_dict'] if key.startswith('decode_head.transformer_decoder.l')}
    assert layers == set('01234')


def test_clip_in_half_precision_is_widened(tmp_path):
    state = numbered('CLIP-VIS', real_clip=False)
    half = {k: v.half() if k.startswith('backbone.') and v.is_floating_point() else v for k, v in state.items()}
    ours = run(half, tmp_path)['state_dict']
    assert all(v.dtype == torch.float32 for k, v in ours.items() if 'num_batches' not in k)


def test_what_does_not_fit_is_named(tmp_path):
    state = numbered('CLIP-VIS', real_clip=False)

    def error_of(state: dict, *options: str) -> str:
        source = published.save(state, tmp_path / 'in.pth')
        return published.error_of(tool.main, [source, str(tmp_path / 'out.pth'), *options])

    assert 'sem_seg_head.odd' in error_of(state | {'sem_seg_head.odd': torch.zeros(1)})
    without = {k: v for k, v in state.items() if 'attnpool.q_proj.bias' not in k}
    assert 'classifier.clip_model.visual.attnpool.q_proj.bias' in error_of(without)
    assert 'no published open-vocabulary baseline' in error_of({'a': torch.zeros(1)})
    assert 'no published open-vocabulary baseline' in error_of(state | numbered('OV2Seg'))
    config = published.ROOT / 'configs' / SYSTEMS['OV2Seg'].config
    assert f'does not fit {config.name}' in error_of(state, '--config', str(config))
    assert not (tmp_path / 'out.pth').exists()
