# SPDX-License-Identifier: Apache-2.0
"""Configs of GAVS: their sizes, their recipes, and two iterations of the mini ones."""

import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

# For `import archive` in whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parent))

import archive  # noqa: E402
import tiny_model  # noqa: E402

from ovavss_mm.engine.parameters import count_parameters  # noqa: E402
from ovavss_mm.models.foundation.base import build_model  # noqa: E402
from ovavss_mm.models.skeleton import build_skeleton  # noqa: E402

FOLDER = tiny_model.ROOT / 'configs'
CONFIGS = sorted((FOLDER / 'gavs').glob('*.py'))
MINI = sorted((FOLDER / 'mini').glob('gavs_*.py'))
CLIPS = {'avsbench-ov': 5184, 's4': 3452, 'ms3': 296, 'release': 3452}


@pytest.fixture(autouse=True, scope='module')
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(scope='module')
def load():
    """Function that gives a config of its own; each file is read once."""
    read = {path: Config.fromfile(path) for path in (*CONFIGS, *MINI)}
    return lambda path: deepcopy(read[path])


def count(module: torch.nn.Module, trainable: bool) -> int:
    """Numbers of a module, or those of them that train."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def test_sizes_are_the_published_ones(load):
    model = build_skeleton(load(FOLDER / 'gavs/gavs_sam-vit-b_release.py').model)
    sam, positions = model.sam.model, 2 * 128  # a constant in SAM, a parameter in the library
    total = count_parameters(model)['all'].total - count(model.audio_encoder, False)
    assert total - positions == 96434736
    assert count(model, True) == 927872
    blocks, layers = sam.vision_encoder.layers, sam.mask_decoder.transformer.layers
    assert [count(block.mlp, True) for block in blocks] == [0] * 9 + [197504] * 3
    assert [count(layer.mlp, True) for layer in layers] == [65920] * 2
    assert sum(count(norm, True) for block in blocks for norm in (block.layer_norm1, block.layer_norm2)) == 6144
    assert count(model.audio_prompt, True) == 197376
    adapters = [part for block in (*blocks, *layers) for part in (block.mlp.down, block.mlp.up)]
    rest = total - positions - count(model.audio_prompt, False) - sum(count(part, False) for part in adapters)
    assert rest == 93735472, 'SAM ViT-B'


def test_model_index_has_each_with_its_numbers(load):
    models = yaml.safe_load((FOLDER / 'metafile.yml').read_text())['Models']
    rows = {model['Name']: model for model in models if model['Name'].startswith('gavs_')}
    assert rows.keys() == {path.stem for path in CONFIGS}
    for row in rows.values():
        config = load(tiny_model.ROOT / row['Config'])
        numbers = count_parameters(build_skeleton(config.model))['all']
        keys = ('Iterations', 'Parameters', 'Trainable Parameters')
        found = config.train_cfg.max_iters, numbers.total, numbers.trainable
        assert tuple(row['Metadata'][key] for key in keys) == found


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_recipes_are_the_published_ones(load, path):
    config, clips = load(path), CLIPS[path.stem.rsplit('_', 1)[1]]
    assert config.train_cfg.max_iters == 60 * clips and config.train_cfg.val_interval == clips
    assert config.train_dataloader.batch_size == 1 and config.randomness == dict(seed=42)
    assert config.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-3, weight_decay=0.01)
    assert not {'paramwise_cfg', 'clip_grad'} & set(config.optim_wrapper) and 'param_scheduler' not in config
    steps = [step.type for step in config.train_dataloader.dataset.pipeline]
    assert 'FlipClip' not in steps and steps.index('ResizeClip') < steps.index('LoadClipLabels')
    assert config.model.init_cfg.checkpoint == 'facebook/sam-vit-base'
    assert config.test_evaluator == config.val_evaluator == dict(type='AVSBinaryMetric', thresholds=(0.5, 0.4))


def test_the_release_differs_in_five_things(load):
    ours, release = (load(FOLDER / f'gavs/gavs_sam-vit-b_{name}.py') for name in ('1xb1-60e_s4', 'release'))
    assert release.model.data_preprocessor.pop('rgb_to_bgr') is True
    assert release.model.audio_encoder.pop('final_relu') is False
    assert (ours.model.pop('prompt_noise'), release.model.pop('prompt_noise')) == ('add', 'replace')
    assert release.train_dataloader.dataset.pipeline[2].pop('first_for_all') is True
    assert release.default_hooks.checkpoint.pop('save_best') == 'J_video@0.4'
    del ours.default_hooks.checkpoint['save_best']
    for key in ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'optim_wrapper', 'default_hooks'):
        assert release[key] == ours[key]


# ------------------------------------------------------------------ two iterations
@pytest.fixture(scope='module')
def data_root(tmp_path_factory) -> Path:
    return archive.write_archive(tmp_path_factory.mktemp('gavs') / 'archive')


@pytest.mark.parametrize('path', MINI, ids=lambda path: path.stem)
def test_mini_trains_for_two_iterations_and_is_evaluated(load, path, data_root, tmp_path):
    config = load(path)
    build_model('SamModel', config.model.sam.to_dict()).save_pretrained(tmp_path / 'sam')
    config.model.init_cfg.checkpoint = str(tmp_path / 'sam')
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(data_root)
    config.train_cfg.update(max_iters=2, val_interval=2)
    config.merge_from_dict(dict(work_dir=str(tmp_path), experiment_name=path.stem, log_level='ERROR'))
    config.default_hooks.pop('visualization', None)
    torch.manual_seed(0)
    runner = Runner.from_cfg(config)
    runner.model.init_weights()
    before = {name: p.detach().clone() for name, p in runner.model.named_parameters()}
    runner.train()
    changed = {name for name, p in runner.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed and changed <= {name for name, p in runner.model.named_parameters() if p.requires_grad}
    assert {name.split('.')[0] for name in changed} == {'sam', 'audio_encoder', 'audio_prompt'}
    assert {'val/J_video', 'val/J_video@0.4', 'val/F_video'} <= set(runner.message_hub.log_scalars)
    config.merge_from_dict(dict(load_from=str(tmp_path / 'iter_2.pth'), experiment_name=f'{path.stem}_test'))
    config.model.init_cfg.checkpoint = 'nowhere/sam'
    figures = Runner.from_cfg(config).test()  # a checkpoint is whole
    assert figures['J_video'] >= 0


def test_data_of_several_names_are_refused_before_training(load, data_root, tmp_path):
    config = load(FOLDER / 'mini/gavs_mini.py')
    config.merge_from_dict(dict(model=dict(init_cfg=None), work_dir=str(tmp_path), log_level='ERROR'))
    config.experiment_name = 'gavs_names'
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(data_root), binary=False)
    with pytest.raises(ValueError, match='PromptedSAM tells what sounds.* the training data have 6 names: set task='):
        Runner.from_cfg(config).train()
