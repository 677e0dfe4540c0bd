# SPDX-License-Identifier: Apache-2.0
"""Rows of the paper's tables: small deltas on any base, whose mini twins train and predict."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from tiny_model import make_clip, prepare

from ovavss_mm.engine.launch import base_of, load_config

ROOT = Path(__file__).resolve().parents[1]
MINI = 'mini/ovavss_mini_ablation'
MAIN = 'ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov'
FOLDERS = ('ablations', 'baselines')
ROWS = sorted(path for folder in FOLDERS for path in (ROOT / 'configs' / folder).glob('*.py'))
# those that differ in how a model is tested, or what it hears
TEST_ONLY = ('crop_', 'masks_', 'naming_', 'selection_', 'templates_', 'sounds')
HEARING = tuple(Config.fromfile(ROOT / 'configs/_base_/models/hearing.py'))
every_row = pytest.mark.parametrize('path', ROWS, ids=lambda path: path.stem)


@pytest.fixture(autouse=True, scope='module')
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def read(path: Path, base: str) -> Config:
    """Read a config on a base, or the base itself."""
    base = str(ROOT / f'configs/{base}.py')
    return load_config(str(path), '', base=None if str(path) == base else base)


SPLITS, PARTS = ('train', 'val', 'test'), ('pipeline', 'dataloader')


@every_row
@pytest.mark.parametrize('base', [MAIN, MINI], ids=['main', 'mini'])
def test_differs_from_its_base_in_little(path, base):
    """One file serves both bases: what it changes on one it changes on the other."""
    row, plain = read(path, base), read(ROOT / f'configs/{base}.py', base)
    changed = {key for key in row if row[key] != plain.get(key)} | (set(plain) - set(row))
    if 'crop_square_rn50' not in path.stem:
        other = MAIN if base == MINI else MINI
        on_other, other_plain = read(path, other), read(ROOT / f'configs/{other}.py', other)
        assert changed == {key for key in on_other if on_other[key] != other_plain.get(key)}
    helpers = {
        'kept',
        'bce_criterion',
        'release',
        'release_scheduler',
        'find_unused_parameters',
        'num_frames',
        'sample_frames',
        'clap',
        'hear',
        'sam',
        'seen',
        'swap',
        'sounds',
        'finish_train',
        'neck',
        'tokens',
        *HEARING,
    }
    allowed = {'model', 'test_evaluator', *(f'{split}_{part}' for split in SPLITS for part in PARTS)}
    assert changed and changed <= allowed | helpers
    assert len(path.read_text().splitlines()) <= 22
    tested_only = path.stem.startswith(TEST_ONLY)
    assert not tested_only or row.model.decode_head == plain.model.decode_head
    assert not tested_only or not changed & {'train_pipeline', 'train_dataloader'}


def test_the_base_is_the_main_config_unless_one_is_named():
    for path in ROWS:
        assert base_of(str(path)) == f'../{MAIN}.py', path
    assert 'OVAVSS_BASE' not in ''.join(p.read_text() for p in (ROOT / 'configs').rglob('*.py'))


def test_a_row_on_two_bases_has_two_work_dirs():
    paths = [ROOT / f'configs/{name}.py' for name in ('ablations/fusion_none', MAIN, MINI)]
    row, *bases = map(str, paths)
    dirs = [load_config(row).work_dir, *(load_config(row, base=base).work_dir for base in bases)]
    assert dirs == ['work_dirs/fusion_none', *(f'work_dirs/fusion_none_on_{Path(base).stem}' for base in bases)]


@pytest.mark.parametrize(
    'path',
    [p for p in ROWS if not p.stem.startswith(TEST_ONLY)] + [ROOT / 'configs/mini/ovavss_mini_swin.py'],
    ids=lambda path: path.stem,
)
def test_mini_twin_trains_and_predicts(path):
    torch.manual_seed(0)
    config = read(path, MINI)
    if 'init_cfg' in config.model.classifier:
        config.model.classifier.init_cfg = None
    model = MODELS.build(config.model).train()
    labels = torch.zeros(5, 64, 96, dtype=torch.uint8)
    labels[:, 4:30, 4:30] = 3
    clip = make_clip(5, (64, 96), labels)
    names = [f'name{i}' for i in range(config.num_names)]
    clip[2].set_metainfo(dict(vocabulary=tuple(names), names=('name2',)))
    losses = model.loss(**prepare(model, [clip], training=True))
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert bool(idle) == config.get('find_unused_parameters', False), idle
    with torch.no_grad():
        sample = model.eval().predict(**prepare(model, [clip]))[0]
    assert sample.pred_sem_seg.data.shape == (5, 64, 96)
