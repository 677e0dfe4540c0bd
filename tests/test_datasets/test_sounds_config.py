# SPDX-License-Identifier: Apache-2.0
"""The config that tests with other sounds, from archive to figures."""

from itertools import islice
from pathlib import Path

import archive
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.registry import DATASETS, METRICS

import ovavss_mm.datasets  # noqa: F401  (registers)
import ovavss_mm.evaluation  # noqa: F401
from ovavss_mm.engine.launch import load_config

FOLDER = Path(__file__).parents[2] / 'configs'
BASES = ('ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov', 'mini/ovavss_mini')
SOUNDS = ('own', 'silence', 'noise', 'other', 'off_screen_0dB', 'off_screen_6dB', 'off_screen_12dB')
SILENCE = np.float32(np.log(0.01))
CLIPS = [clip for clip in archive.CLIPS if clip.split == 'test' and clip.subset != 'v1m']


@pytest.fixture(autouse=True, scope='module')
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def read(base: str, with_sounds: bool = True) -> Config:
    base = str(FOLDER / f'{base}.py')
    return load_config(str(FOLDER / 'ablations/sounds.py'), '', base=base) if with_sounds else load_config(base, '')


@pytest.fixture(scope='module')
def dataset(root):
    """The test split of the mini config on the tiny archive, with all sounds."""
    config = read(BASES[1]).test_dataloader.dataset
    return DATASETS.build(config | dict(data_root=str(root), base_names='base_names.txt'))


@pytest.mark.parametrize('base', BASES, ids=['main', 'mini'])
def test_the_test_data_alone_differ(base):
    config, plain = read(base), read(base, with_sounds=False)
    config.pop('sounds')
    config.test_dataloader.dataset.pop('sounds')
    assert config.to_dict() == plain.to_dict()


def test_sound_alone_is_swapped(dataset):
    """Frames and labels are those of the clip; sound is heard, or not, as the name says."""
    items = [dataset[i] for i in range(len(dataset))]
    items = {(item['data_samples'].clip_id, item['data_samples'].sound): item for item in items}
    assert set(items) == {(clip.uid, sound) for clip in CLIPS for sound in SOUNDS}
    for (clip, sound), item in items.items():
        own = items[clip, 'own']
        assert torch.equal(item['inputs']['imgs'], own['inputs']['imgs'])
        assert torch.equal(item['data_samples'].gt_sem_seg.data, own['data_samples'].gt_sem_seg.data)
        audio, before = (x['inputs']['audio'].numpy() for x in (item, own))
        same = sound == 'own' or (clip, sound) == ('test_silent', 'silence')
        assert audio.shape == before.shape and np.array_equal(audio, before) == same
        assert (audio == SILENCE).all() == (sound == 'silence' or (clip, sound) == ('test_silent', 'own'))
        assert item['data_samples'].get('sound_visible', True) == (sound not in ('silence', 'noise', 'other'))


def test_figures_of_a_model_that_labels_what_it_sees(dataset):
    """Right with the clips' own sound, and a false positive wherever it is taken away."""
    metric = METRICS.build(read(BASES[1]).test_evaluator)
    metric.dataset_meta = dataset.metainfo
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        sample.pred_sem_seg = PixelData(data=sample.gt_sem_seg.data.clone())
        metric.process({}, [sample.to_dict()])
    result = metric.evaluate(len(dataset))
    assert result['base_mIoU'] == result['novel_mIoU'] == 100
    named = [(archive.label_map(c, t) > 0).mean() for c in CLIPS for t in range(len(c.frames))]
    for sound in SOUNDS[1:]:
        assert result[f'{sound}/harmonic_mIoU'] == 100
        if sound in ('silence', 'noise', 'other'):
            rates = [result[f'{sound}/{key}'] for key in ('silent_pixel_fpr', 'silent_frame_fpr', 'FPR')]
            assert rates == [pytest.approx(100 * np.mean(named)), 100, pytest.approx(100 * np.mean(named))]
        else:  # something sounds in every frame of the archive
            assert np.isnan(result[f'{sound}/silent_frame_fpr']) and result[f'{sound}/kept'] == 100


def test_mixed_sounds_do_not_depend_on_loader_workers(root):
    """Clips, their sounds and labels are the same with none and with two processes."""
    config = load_config(str(FOLDER / 'mini/ovavss_mini_hearing.py'), '').train_dataloader
    options = dict(data_root=str(root), base_names='all')
    drawn = []
    for workers in (0, 2):
        config.update(num_workers=workers, batch_size=2, dataset=config.dataset | options)
        drawn.append([])
        for batch in islice(Runner.build_dataloader(config.copy(), seed=3), 6):
            for sample, audio in zip(batch['data_samples'], batch['inputs']['audio'], strict=True):
                labels = sample.gt_sem_seg.data
                drawn[-1].append((sample.clip_id, sample.sound, audio.sum().item(), labels.sum().item()))
    assert drawn[0] == drawn[1]
    assert len({sound.split('_')[0] for _, sound, *_ in drawn[0]}) > 2
