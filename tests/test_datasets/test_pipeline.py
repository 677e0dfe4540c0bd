# SPDX-License-Identifier: Apache-2.0
"""The shipped dataset config, from archive to batch."""

from pathlib import Path

import archive
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

import ovavss_mm.datasets  # noqa: F401  (registers)

CONFIG = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets' / 'avsbench_ov.py'


@pytest.fixture(scope='module')
def loaders(root):
    """The three loaders of the config on the tiny archive, in this process, with small frames."""
    config = Config.fromfile(CONFIG)
    made = {}
    for split in ('train', 'val', 'test'):
        loader = config[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(root), base_names='base_names.txt')
        for step in loader.dataset.pipeline:
            if step.type == 'ResizeClip':
                step.short_side = 48
        with DefaultScope.overwrite_default_scope('mmseg'):
            made[split] = Runner.build_dataloader(loader, seed=0)
    return made


def test_training_batch(loaders):
    batches = iter(loaders['train'])
    seen = set()
    for _ in range(6):
        batch = next(batches)
        (imgs,), (audio,), (sample,) = (*batch['inputs'].values(), batch['data_samples'])
        assert imgs.shape == (5, 3, 48, 64)
        assert audio.shape == (5, 1, 96, 64)
        assert sample.gt_sem_seg.shape == (48, 64)
        # Frames are bright where the label map has a name.
        for img, labels, annotated in zip(imgs, sample.gt_sem_seg.data, sample.annotated, strict=True):
            assert annotated == bool((labels != 255).any())
            if annotated:
                bright = img.float().mean(0) > 130
                assert (bright == (labels > 0)).float().mean() > 0.93
        seen.add(sample.clip_id)
    assert seen == {'bird_0', 'dog_guitar', 'horse_1'}


@pytest.mark.parametrize('split', ['val', 'test'])
def test_evaluation_keeps_all_frames_and_original_labels(loaders, split):
    for batch in loaders[split]:
        (imgs,), (sample,) = batch['inputs']['imgs'], batch['data_samples']
        frames = archive.NUM_FRAMES[sample.subset]
        assert imgs.shape == (frames, 3, 48, 64)
        assert len(sample.frame_paths) == frames
        assert sample.gt_sem_seg.data.shape == (frames, *archive.SIZE)
        listed = {archive.label_index(name) for name in sample.names}
        assert set(sample.gt_sem_seg.data.unique().tolist()) == {0} | listed


def test_silent_clip(loaders):
    batch = next(b for b in loaders['test'] if b['data_samples'][0].clip_id == 'test_silent')
    audio = batch['inputs']['audio'][0]
    assert torch.allclose(audio, torch.tensor(np.log(0.01)).float())
