# SPDX-License-Identifier: Apache-2.0
"""Configs of OV2Seg: their sizes, and two iterations of each."""

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
from ovavss_mm.models.skeleton import build_skeleton, read_config  # noqa: E402

FOLDER = tiny_model.ROOT / 'configs'
MAIN = FOLDER / 'ov2seg/ov2seg_r50_1xb1-82k_avsbench-ov.py'
MINI = FOLDER / 'mini/ov2seg_mini.py'


@pytest.fixture(autouse=True, scope='module')
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def test_sizes_of_the_papers_row():
    model = build_skeleton(read_config(str(MAIN)).model)
    trained = count_parameters(model)['all'].trainable
    text = sum(p.numel() for p in model.classifier.clip_model.transformer.parameters())
    assert (trained, trained + text) == (39476866, 77305474)
    assert (round(mebibytes(trained), 3), round(mebibytes(trained + text), 3)) == (150.592, 294.897)


def small(path: Path) -> Config:
    """The config with small numbers."""
    config = Config.fromfile(path)
    numbers = deepcopy(tiny_model.SMALL)
    numbers.pop('audio_encoder')
    numbers['neck'].pop('fusion')
    numbers['decode_head']['text_channels'] = 16
    numbers['classifier']['type'] = 'TextSpaceClassifier'
    numbers['backbone']['init_cfg'] = None
    config.merge_from_dict(dict(model=numbers))
    return config


@pytest.mark.parametrize('path', [MAIN, MINI], ids=lambda path: path.stem)
def test_recipe_trains_for_two_iterations_and_is_evaluated(path, tmp_path):
    data_root = archive.write_archive(tmp_path / 'archive', archive.CLIPS)
    config = small(path) if path == MAIN else Config.fromfile(path)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(data_root), base_names='base_names.txt')
        for step in loader.dataset.pipeline:
            if step.type == 'ResizeClip':
                step.short_side = 64
    config.train_cfg.update(max_iters=2, val_begin=1, val_interval=2)
    work_dir = tmp_path / path.stem
    config.merge_from_dict(dict(work_dir=str(work_dir), experiment_name=work_dir.name, log_level='ERROR'))
    config.default_hooks.pop('visualization', None)
    config.custom_hooks = config.get('custom_hooks', [])[:1]
    torch.manual_seed(0)
    runner = Runner.from_cfg(config)
    trained = {name: p for name, p in runner.model.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in trained.items()}
    runner.train()
    changed = {name.split('.')[0] for name, p in trained.items() if not torch.equal(p, before[name])}
    assert changed == {'backbone', 'neck', 'decode_head'} == {name.split('.')[0] for name in trained}
    assert {'train/decode.loss_name', 'val/mIoU'} <= set(runner.message_hub.log_scalars)
