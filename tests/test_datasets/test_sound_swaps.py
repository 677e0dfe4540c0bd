# SPDX-License-Identifier: Apache-2.0
"""The configs that swap the sound of the test split, from archive to figures."""

from pathlib import Path

import archive
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import DATASETS, METRICS

import ovavss_mm.datasets  # noqa: F401  (registers)
import ovavss_mm.evaluation  # noqa: F401
from ovavss_mm.engine.launch import load_config

FOLDER = Path(__file__).parents[2] / 'configs'
MAIN = 'ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov'
MINI = 'mini/ovavss_mini'
SOURCES = {'silence': 'silence', 'other': 'other', 'noise': 'noise', 'off-screen': 'off_screen'}
SILENCE = np.float32(np.log(0.01))
CLIPS = [clip for clip in archive.CLIPS if clip.split == 'test' and clip.subset != 'v1m']

every_swap = pytest.mark.parametrize('name', SOURCES)


@pytest.fixture(autouse=True, scope='module')
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def read(name: str | None, base: str = MAIN) -> Config:
    """Read the config of a swap (None: the base itself) on a base."""
    base = str(FOLDER / f'{base}.py')
    if name is None:
        return load_config(base, '')
    return load_config(str(FOLDER / f'ablations/sound_{name}.py'), '', base=base)


def clips_of(config: Config, root: Path) -> dict[str, dict]:
    """The test split of a config on the tiny archive, by clip."""
    loader = config.test_dataloader
    loader.dataset.update(data_root=str(root), base_names='base_names.txt')
    dataset = DATASETS.build(loader.dataset)
    items = [dataset[i] for i in range(len(dataset))]
    return {item['data_samples'].clip_id: item for item in items}


@every_swap
@pytest.mark.parametrize('base', [MAIN, MINI], ids=['main', 'mini'])
def test_only_the_pipeline_of_the_test_differs(name, base):
    config, plain = read(name, base), read(None, base)
    steps = config.test_dataloader.dataset.pipeline
    at = [step.type for step in steps].index('SwapClipAudio')
    assert steps[at] == dict(type='SwapClipAudio', source=SOURCES[name])
    assert at < [step.type for step in steps].index('LoadClipAudio')
    config.test_pipeline.pop(at)
    config.test_dataloader.dataset.pipeline.pop(at)
    assert config.to_dict() == plain.to_dict()


@every_swap
def test_sound_alone_is_swapped(root, name):
    """Frames and labels are those of the base; sound is heard, or not, as the config says."""
    plain, swapped = (clips_of(read(n, MINI), root) for n in (None, name))
    assert set(plain) == set(swapped) == {clip.uid for clip in CLIPS}
    for clip, item in swapped.items():
        own = plain[clip]
        assert torch.equal(item['inputs']['imgs'], own['inputs']['imgs'])
        assert torch.equal(item['data_samples'].gt_sem_seg.data, own['data_samples'].gt_sem_seg.data)
        audio, before = (x['inputs']['audio'].numpy() for x in (item, own))
        assert audio.shape == before.shape
        assert not np.array_equal(audio, before) or (name, clip) == ('silence', 'test_silent')
        assert (audio == SILENCE).all() == (name == 'silence')
        meta = item['data_samples'].metainfo
        expected = {} if name == 'off-screen' else {'sound_visible': False}
        assert meta == own['data_samples'].metainfo | expected


def test_sound_off_the_screen_is_that_of_the_other_clip(root):
    """Of a clip without sound nothing else is heard."""
    other, off_screen = (clips_of(read(name, MINI), root) for name in ('other', 'off-screen'))
    for clip in other:
        same = torch.equal(*(c[clip]['inputs']['audio'] for c in (other, off_screen)))
        assert same == (clip == 'test_silent')


@pytest.mark.parametrize('name', [None, *SOURCES], ids=lambda name: name or 'own')
def test_rates_of_a_model_that_labels_what_it_sees(root, name):
    """Right with the clips' own sound, and a false positive wherever it is taken away."""
    config = read(name, MINI)
    metric = METRICS.build(config.test_evaluator)
    items = clips_of(config, root)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    metric.dataset_meta = dataset.metainfo
    for item in items.values():
        sample = item['data_samples']
        sample.pred_sem_seg = PixelData(data=sample.gt_sem_seg.data.clone())
        metric.process({}, [sample.to_dict()])
    result = metric.evaluate(len(items))
    assert result['base_mIoU'] == result['novel_mIoU'] == 100
    rates = result['silent_pixel_fpr'], result['silent_frame_fpr']
    if name in (None, 'off-screen'):
        assert np.isnan(rates).all()  # something sounds in every frame of the archive
    else:
        named = [(archive.label_map(c, t) > 0).mean() for c in CLIPS for t in range(len(c.frames))]
        assert rates == (pytest.approx(100 * np.mean(named)), 100)
