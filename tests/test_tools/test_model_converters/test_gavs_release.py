# SPDX-License-Identifier: Apache-2.0
"""Published weights of GAVS and SAM: every weight under one name of ours, and nothing else."""

import json
from pathlib import Path

import published
import pytest
import torch
from released import gavs

from ovavss_mm.models.foundation.base import read_pretrained
from ovavss_mm.models.skeleton import build_skeleton, read_config

tool = published.load_tool('model_converters/gavs_release.py')
OURS = 'sam.model.'


def numbered() -> dict[str, torch.Tensor]:
    """A checkpoint in which weight i is i everywhere."""
    return {key: value.contiguous() for key, value in published.published_state(published.shapes('gavs')).items()}


def sam_alone(state: dict) -> dict:
    """The names that SAM's own file has."""
    added = ('adapter', 'audio_proj')
    return {k.removeprefix(gavs.PREFIX): v for k, v in state.items() if not any(part in k for part in added)}


@pytest.fixture
def config(tmp_path) -> str:
    """A config of the release, with a SAM of the sizes of the fixture."""
    base = published.ROOT / 'configs/gavs/gavs_sam-vit-b_release.py'
    sam = gavs.sam_config(numbered())
    (tmp_path / 'small.py').write_text(f"_base_ = ['{base}']\nmodel = dict(sam={sam}, tune_v=2)\n")
    return str(tmp_path / 'small.py')


def run(state: dict, folder: Path, *options: str) -> Path:
    """Convert a bare state dict; gives the path of the result."""
    torch.save(state, folder / 'in.pth')
    tool.main([str(folder / 'in.pth'), str(folder / 'out'), *options])
    return folder / 'out'


def test_every_weight_of_gavs_is_converted_and_fits_the_model(config, tmp_path, capsys):
    state = numbered()
    content = torch.load(run(state, tmp_path, '--config', config, '--verbose'), weights_only=True)
    assert content['meta']['dataset_meta'] == dict(classes=('background', 'sounding'))
    listed = {line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith('mapped')}
    assert listed == set(state)
    ours = content['state_dict']
    known = build_skeleton(read_config(config).model).state_dict()
    assert {key for key in known if not key.startswith('audio_encoder.')} == set(ours)
    second = ours.pop(f'{OURS}shared_image_embedding.positional_embedding')
    assert torch.equal(second, ours[f'{OURS}prompt_encoder.shared_embedding.positional_embedding'])
    found = [number for value in ours.values() for number in value.unique().tolist()]
    assert sorted(found) == list(range(len(state))), 'each weight once'
    number = list(state).index('model_v.mask_decoder.transformer.layers.1.adapter_tf.proj.bias')
    assert ours[f'{OURS}mask_decoder.transformer.layers.1.mlp.up.bias'].unique() == number


def test_sam_alone_becomes_a_folder_that_a_model_starts_from(tmp_path):
    state = sam_alone(numbered())
    folder = run(state, tmp_path)
    config = gavs.sam_config(state)
    read = read_pretrained('SamModel', config, str(folder))
    assert len(read) == len(state) + 1
    number = list(numbered()).index('model_v.image_encoder.neck.1.bias')
    assert read['vision_encoder.neck.layer_norm1.bias'].unique() == number
    assert json.loads((folder / 'config.json').read_text())['mask_decoder_config']['layer_norm_eps'] == 1e-5


@pytest.mark.parametrize(
    ('width', 'depth', 'heads', 'blocks'),
    [(768, 12, 12, [2, 5, 8, 11]), (1024, 24, 16, [5, 11, 17, 23]), (1280, 32, 16, [7, 15, 23, 31])],
    ids=['ViT-B', 'ViT-L', 'ViT-H'],
)
def test_sizes_are_told_from_the_file(width, depth, heads, blocks):
    from transformers import SamConfig

    state = {key: torch.empty(value.shape, device='meta') for key, value in sam_alone(numbered()).items()}
    state = {key: value for key, value in state.items() if '.blocks.' not in key}
    for i in range(depth):
        side = 64 if i in blocks else 14
        state[f'image_encoder.blocks.{i}.attn.rel_pos_h'] = torch.empty(2 * side - 1, width // heads, device='meta')
    state['image_encoder.blocks.0.mlp.lin1.weight'] = torch.empty(4 * width, width, device='meta')
    state['image_encoder.pos_embed'] = torch.empty(1, 64, 64, width, device='meta')
    found = SamConfig(**gavs.sam_config(state)).to_dict()
    wanted = SamConfig(
        vision_config=dict(
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            global_attn_indexes=blocks,
            mlp_dim=4 * width,
        ),
        mask_decoder_config=dict(layer_norm_eps=1e-5),
    ).to_dict()
    for part in ('vision_config', 'prompt_encoder_config', 'mask_decoder_config'):
        assert found[part] == wanted[part]


def test_what_does_not_fit_is_named(config, tmp_path):
    state = numbered()

    def error_of(state: dict, *options: str) -> str:
        torch.save(state, tmp_path / 'in.pth')
        return published.error_of(tool.main, [str(tmp_path / 'in.pth'), str(tmp_path / 'out'), *options])

    assert 'conv9.x' in error_of(state | {'conv9.x': torch.zeros(1)}, '--config', config)
    key = 'model_v.image_encoder.blocks.1.mlp.lin1.bias'
    without = {k: v for k, v in state.items() if k != key}
    assert f'{OURS}vision_encoder.layers.1.mlp.mlp.lin1.bias' in error_of(without, '--config', config)
    assert 'no SAM: image_encoder.pos_embed must be there' in error_of({'a': torch.zeros(1)})
    assert 'does not fit gavs_sam-vit-b_release.py' in error_of(state)
    alone = sam_alone(state)
    del alone['image_encoder.neck.0.weight']
    assert 'image_encoder.neck.0.weight' in error_of(alone)
    assert not (tmp_path / 'out').exists()
