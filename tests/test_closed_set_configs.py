# SPDX-License-Identifier: Apache-2.0
"""Configs of the closed-set models of Table 2: their sizes, their recipes, and two iterations of one backbone each."""

import sys
from copy import deepcopy
from itertools import product
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

from ovavss_mm.engine.parameters import count_parameters, mebibytes  # noqa: E402
from ovavss_mm.models.skeleton import build_skeleton  # noqa: E402

FOLDER = tiny_model.ROOT / 'configs'
CONFIGS = sorted(path for name in ('tpavi', 'catr') for path in (FOLDER / name).glob('*.py'))
MINI = sorted(path for name in ('tpavi', 'catr') for path in (FOLDER / 'mini').glob(f'{name}_*.py'))
SETTINGS = ('avsbench-ov', 'avss', 's4', 'ms3')


@pytest.fixture(autouse=True, scope='module')
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(scope='module')
def load():
    """Function that gives a config of its own; each file is read once."""
    read = {path: Config.fromfile(path) for path in (*CONFIGS, *MINI)}
    return lambda path: deepcopy(read[path])


@pytest.fixture(scope='module')
def data_root(tmp_path_factory) -> Path:
    clips = (*archive.CLIPS, archive.Clip('val_many', 'dog_bird', 'val', 'v1m'))
    return archive.write_archive(tmp_path_factory.mktemp('closed') / 'archive', clips)


def test_there_is_each_model_in_each_setting():
    for model in ('tpavi_r50', 'tpavi_pvt-v2-b5', 'catr_r50', 'catr_pvt-v2-b5'):
        settings = {path.stem.rsplit('_', 1)[1] for path in CONFIGS if path.stem.startswith(f'{model}_1xb')}
        assert settings == set(SETTINGS), model


@pytest.mark.parametrize(
    ('name', 'parameters', 'total', 'trainable'),
    [
        ('tpavi/tpavi_r50_1xb4-60e_avss', 91402247, 623.9, 348.7),  # the paper's row
        ('tpavi/tpavi_r50_1xb4-15e_s4', 91399937 + 4 * 256, 623.9, 348.7),  # and the biases of the aligned sound
        ('tpavi/tpavi_pvt-v2-b5_1xb4-60e_avss', 101321863, 661.7, 386.5),
        ('catr/catr_pvt-v2-b5_1xb2-100e_s4', 118599462, 727.6, 452.4),  # the paper's row
        ('catr/catr_pvt-v2-b5_1xb2-100e_avss', 118617195, 727.7, 452.5),
        ('catr/catr_r50_1xb2-100e_s4', 86616742, 605.6, 330.4),
    ],
)
def test_sizes(load, name, parameters, total, trainable):
    """In MiB, everything counted: batch norm, which trains here, and weights that nothing uses."""
    count = count_parameters(build_skeleton(load(FOLDER / f'{name}.py').model))['all']
    assert count.trainable == parameters
    assert (round(mebibytes(count.total), 1), round(mebibytes(count.trainable), 1)) == (total, trainable)


def test_model_index_has_one_of_each_model_in_each_setting_with_its_numbers(load):
    models = yaml.safe_load((FOLDER / 'metafile.yml').read_text())['Models']
    rows = {model['Name']: model for model in models if model['In Collection'] == 'Closed-set models'}
    assert sorted((n.split('_')[0], n.rsplit('_', 1)[1]) for n in rows) == sorted(product(('tpavi', 'catr'), SETTINGS))
    for name, row in rows.items():
        path = tiny_model.ROOT / row['Config']
        config = load(path)
        count = count_parameters(build_skeleton(config.model))['all']
        numbers = config.train_cfg.max_iters, count.total, count.trainable
        keys = ('Iterations', 'Parameters', 'Trainable Parameters')
        assert (path.stem, tuple(row['Metadata'][key] for key in keys)) == (name, numbers)


AFFINE = dict(type='AffineClip', degrees=20, scale=(0.5, 1.0), shear=10)
RESIZE, FLIP, PACK = (
    dict(type='ResizeClip', short_side=224),
    dict(type='FlipClip', prob=0.5),
    dict(type='PackAVSegInputs'),
)
CROP = dict(type='CropClip', size=224)
# What the published code has, by key; None: the key is not there.
BACKBONES = {
    'r50': {
        'type': 'ResNet',
        'depth': 50,
        'style': 'pytorch',
        'norm_cfg': dict(type='BN', requires_grad=True),
        'norm_eval': False,
        'frozen_stages': None,
    },
    'pvt-v2-b5': {
        'type': 'PVTv2',
        'embed_dims': 64,
        'num_layers': [3, 6, 40, 3],
        'num_heads': [1, 2, 5, 8],
        'mlp_ratios': [4] * 4,
        'sr_ratios': [8, 4, 2, 1],
        'drop_path_rate': 0.1,
        'norm_cfg': dict(type='LN', eps=1e-6),
        'embed_eps': 1e-5,
    },
}
BOTH = {
    'param_scheduler': None,
    'randomness.seed': 123,
    'find_unused_parameters': True,
    'optim_wrapper.paramwise_cfg': None,
    'model.data_preprocessor.mean': [123.675, 116.28, 103.53],
    'model.data_preprocessor.std': [58.395, 57.12, 57.375],
    'model.neck.dilations': (3, 6, 12, 18),
    'model.neck.out_channels': 256,
    'model.decode_head.channels': 256,
    'model.decode_head.window': 5,
}
MODELS = {
    'tpavi': {
        'train_dataloader.batch_size': 4,
        'optim_wrapper.optimizer': dict(type='Adam', lr=1e-4),
        'optim_wrapper.clip_grad': None,
        'model.data_preprocessor.input_size': (224, 224),
        'model.neck.skip': None,
        'model.decode_head.output_channels': (128, 32),
        'model.decode_head.relu_residual': True,
        'model.decode_head.unused_unit': True,
    },
    'catr': {
        'train_dataloader.batch_size': 2,
        'optim_wrapper.optimizer': dict(type='Adam', lr=1e-5),
        'optim_wrapper.clip_grad': dict(max_norm=5),
        'model.data_preprocessor.input_size': (448, 448),
        'model.data_preprocessor.num_frames': None,
        'model.neck.skip': (0,),
        'model.decode_head.num_queries': 50,
        'model.decode_head.num_layers': 3,
        'model.decode_head.layer_cfg': dict(num_heads=8, feedforward_channels=2048, dropout=0.1),
        'model.decode_head.temporal_cfg': dict(squared_product=True, first_frame_audio=True, shared_gate=True),
        'model.decode_head.mask_levels': (3, 2),
        'model.decode_head.mask_channels': 64,
        'model.decode_head.unused_positions': 15680,
        'model.decode_head.criterion.match_costs.0.weight': 2.0,
        'model.decode_head.criterion.match_costs.1.weight': 7.0,
        'model.decode_head.criterion.loss_focal.loss_weight': 5.0,
        'model.decode_head.criterion.loss_dice.loss_weight': 5.0,
        'model.decode_head.criterion.class_weight': 1.0,
        'model.decode_head.criterion.no_object_weight': 0.1,
        'model.decode_head.criterion.bce_weight': 4.0,
        'model.decode_head.criterion.double_sigmoid': True,
    },
}
AVM = {
    'avsbench-ov': dict(type='AudioVisualMatchLoss', loss_weight=0.5, reduction='mean'),
    'avss': dict(type='AudioVisualMatchLoss', loss_weight=0.5, reduction='mean'),
    's4': None,
    'ms3': dict(type='AudioVisualMatchLoss', loss_weight=0.5, reduction='sum'),
}
CLIPS = {'avsbench-ov': 5184, 'avss': 8498, 's4': 3452, 'ms3': 296}
EPOCHS = {'tpavi': {'avsbench-ov': 60, 'avss': 60, 's4': 15, 'ms3': 30}, 'catr': dict.fromkeys(SETTINGS, 100)}


def published(model: str, backbone: str, setting: str) -> dict:
    """What a config of a full-size model must have, by key."""
    binary, tpavi = setting in ('s4', 'ms3'), model == 'tpavi'
    frames = 5 if binary else 10
    sample = [] if binary else [dict(type='SampleClipFrames', num_frames=frames)]
    load = ['LoadClipFrames', 'LoadClipLabels', 'LoadClipAudio']
    wanted = BOTH | MODELS[model] | {f'model.backbone.{key}': value for key, value in BACKBONES[backbone].items()}
    wanted |= {
        'num_frames': frames,
        'model.test_cfg.window': frames,
        'train_dataloader.dataset.pipeline': [
            *(sample + load),
            *((RESIZE, CROP, PACK) if tpavi else (RESIZE, AFFINE, CROP | dict(random=True), FLIP, PACK)),
        ],
        'default_hooks.checkpoint.save_best': 'J_video' if binary else 'mIoU',
        'default_hooks.checkpoint.rule': 'greater' if binary else None,  # of mIoU mmengine knows it
        'model.decode_head.num_classes': 1 if binary else 70 + tpavi,
    }
    if tpavi:
        wanted |= {
            'model.data_preprocessor.num_frames': frames,
            'model.decode_head.audio_bias': binary,
            'model.decode_head.loss_avm': AVM[setting],
        }
    return wanted


def found(config: Config, key: str) -> object:
    """Value of a key with dots; of steps that read files the type only; None: there is none."""
    value = config
    for part in key.split('.'):
        value = value[int(part)] if part.isdigit() else (value or {}).get(part)
    if key.endswith('pipeline'):
        value = [step.type if step.type.startswith('Load') else step for step in value]
    return value


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_recipes_are_the_published_ones(load, path):
    model, backbone, schedule, setting = path.stem.split('_')
    config = load(path)
    wanted = published(model, backbone, setting)
    assert {key: found(config, key) for key in wanted} == wanted

    epoch = -(-CLIPS[setting] // config.train_dataloader.batch_size)
    epochs, loop = EPOCHS[model][setting], config.train_cfg
    assert loop.max_iters == epochs * epoch and f'-{epochs}e' in schedule
    # as mmengine's loop decides it; TPAVI's from the 15th epoch on, each 2nd
    at = [
        i / epoch
        for i in range(loop.val_interval, loop.max_iters + 1, loop.val_interval)
        if i >= loop.get('val_begin', 1)
    ]
    sparse = model == 'tpavi' and setting in ('avsbench-ov', 'avss')
    assert at == list(range(16, 61, 2) if sparse else range(1, epochs + 1))
    assert config.default_hooks.checkpoint.interval == loop.val_interval


def shrink(config: Config, data_root: Path, work_dir: Path) -> Config:
    """The config with small numbers, on a small archive, for two iterations."""
    pvt = config.model.backbone.type == 'PVTv2'
    small = dict(embed_dims=8, num_layers=[1] * 4) if pvt else dict(depth=18, base_channels=8, stem_channels=8)
    config.model.backbone.update(**small, init_cfg=None)
    head = config.model.decode_head
    head.channels = config.model.neck.out_channels = 64
    config.model.neck.in_channels = [8, 16, 40, 64] if pvt else [8, 16, 32, 64]
    if head.type == 'CATRHead':
        head.update(
            num_queries=6, layer_cfg=dict(num_heads=2, feedforward_channels=16, dropout=0.1), unused_positions=9
        )
    if head.get('extra_branch'):
        head.extra_branch.update(**small, init_cfg=None)
    config.model.audio_encoder = dict(type='LogMelEncoder', channels=4, out_channels=128)
    config.model.data_preprocessor.input_size = (64, 64)
    if head.num_classes > 1:
        head.num_classes = len(archive.NAMES) + (head.type == 'TPAVIHead')
    loaders = config.train_dataloader, config.val_dataloader, config.test_dataloader
    for loader in loaders:
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(data_root)
        if loader.dataset.type == 'AVSBenchOVDataset':
            loader.dataset.base_names = 'base_names.txt'
    for step in config.train_dataloader.dataset.pipeline:
        if step.type == 'ResizeClip':
            step.short_side = 64
        if step.type == 'CropClip':
            step.size = 64
    config.train_cfg.update(max_iters=2, val_begin=1, val_interval=2)
    config.merge_from_dict(dict(work_dir=str(work_dir), experiment_name=work_dir.name, log_level='ERROR'))
    config.default_hooks.pop('visualization', None)
    return config


@pytest.mark.parametrize('name', ['tpavi_mini', 'catr_mini', 'tpavi_mini_s4'])
def test_another_number_of_classes_is_refused_before_training(load, name, data_root, tmp_path):
    config = shrink(load(FOLDER / f'mini/{name}.py'), data_root, tmp_path / f'{name}_classes')
    config.model.decode_head.num_classes += 2
    with pytest.raises(ValueError, match=r'background and \d names apart, the training data have (6 names|1 name): '):
        Runner.from_cfg(config).train()


# One backbone of each model: the others have the same parts, and test_configs.py builds every config.
TRAINED = [path for path in CONFIGS if path.stem.startswith(('tpavi_r50', 'catr_pvt-v2-b5'))]


@pytest.mark.parametrize('path', [*TRAINED, *MINI], ids=lambda path: path.stem)
def test_recipe_trains_for_two_iterations_and_is_evaluated(load, path, data_root, tmp_path):
    config = shrink(load(path), data_root, tmp_path / path.stem)
    torch.manual_seed(0)
    runner = Runner.from_cfg(config)
    before = {name: p.detach().clone() for name, p in runner.model.named_parameters()}
    runner.train()
    changed = {name.split('.')[0] for name, p in runner.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {'backbone', 'neck', 'decode_head', 'audio_encoder'}
    assert {'val/mIoU', 'val/J_video'} & set(runner.message_hub.log_scalars)
