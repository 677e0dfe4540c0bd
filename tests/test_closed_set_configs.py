# SPDX-License-Identifier: Apache-2.0
"""Configs of the closed-set models of Table 2: their sizes, their recipes, and two iterations of each."""

import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
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


@pytest.mark.parametrize(
    ('setting', 'model', 'clips', 'epochs'),
    [
        ('avsbench-ov', 'tpavi', 5184, 60),
        ('avss', 'tpavi', 8498, 60),
        ('s4', 'tpavi', 3452, 15),
        ('ms3', 'tpavi', 296, 30),
        *[(setting, 'catr', n, 100) for setting, n in zip(SETTINGS, (5184, 8498, 3452, 296), strict=True)],
    ],
)
def test_recipes_are_the_published_ones(load, setting, model, clips, epochs):
    batch, lr = dict(tpavi=(4, 1e-4), catr=(2, 1e-5))[model]
    for path in CONFIGS:
        if not path.stem.startswith(model) or not path.stem.endswith(f'_{setting}'):
            continue
        config = load(path)
        assert config.train_dataloader.batch_size == batch
        assert config.train_cfg.max_iters == epochs * -(-clips // batch)
        assert config.optim_wrapper.optimizer == dict(type='Adam', lr=lr)
        assert config.optim_wrapper.get('clip_grad') == (None if model == 'tpavi' else dict(max_norm=5))
        assert [s.type for s in config.param_scheduler] == ['ConstantLR'] and config.param_scheduler[0].factor == 1
        assert config.randomness.seed == 123 and config.find_unused_parameters


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


@pytest.mark.parametrize('path', [*CONFIGS, *MINI], ids=lambda path: path.stem)
def test_recipe_trains_for_two_iterations_and_is_evaluated(load, path, data_root, tmp_path):
    config = shrink(load(path), data_root, tmp_path / path.stem)
    torch.manual_seed(0)
    runner = Runner.from_cfg(config)
    before = {name: p.detach().clone() for name, p in runner.model.named_parameters()}
    runner.train()
    changed = {name.split('.')[0] for name, p in runner.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {'backbone', 'neck', 'decode_head', 'audio_encoder'}
    assert {'val/mIoU', 'val/J_video'} & set(runner.message_hub.log_scalars)
