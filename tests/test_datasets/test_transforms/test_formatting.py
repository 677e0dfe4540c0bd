# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate

from ovavss_mm.datasets import PackAVSegInputs


def results_of(t=3, labels=True, **kwargs) -> dict:
    rng = np.random.default_rng(0)
    results = {
        'clip_id': 'c',
        'subset': 'v2',
        'names': ('dog', 'h orse'),
        'vocabulary': ('cat', 'dog'),
        'num_frames': 10,
        'frame_paths': [f'{i}.jpg' for i in range(10)],
        'frame_inds': np.arange(1, 1 + 2 * t, 2),
        'imgs': rng.integers(0, 256, (t, 6, 8, 3), dtype=np.uint8),
        'audio': rng.standard_normal((t, 1, 96, 64)).astype(np.float32),
        'ori_shape': (12, 16),
        'img_shape': (6, 8),
    }
    if labels:
        results['gt_seg_maps'] = rng.integers(0, 3, (t, 12, 16), dtype=np.uint8)
        results['annotated'] = np.array([True] + [False] * (t - 1))
    return results | kwargs


def test_pack():
    results = results_of(flip=True)
    packed = PackAVSegInputs()(results)
    imgs, audio = packed['inputs']['imgs'], packed['inputs']['audio']
    assert imgs.dtype == torch.uint8
    assert audio.dtype == torch.float32
    assert np.array_equal(imgs.numpy(), results['imgs'].transpose(0, 3, 1, 2))
    assert np.array_equal(audio.numpy(), results['audio'])
    sample = packed['data_samples']
    assert sample.gt_sem_seg.data.dtype == torch.uint8
    assert np.array_equal(sample.gt_sem_seg.data.numpy(), results['gt_seg_maps'])
    assert sample.metainfo == {
        'clip_id': 'c',
        'subset': 'v2',
        'names': ('dog', 'h orse'),
        'vocabulary': ('cat', 'dog'),
        'frame_paths': ['1.jpg', '3.jpg', '5.jpg'],
        'ori_shape': (12, 16),
        'img_shape': (6, 8),
        'flip': True,
        'annotated': [True, False, False],
    }


def test_what_is_heard_is_passed_on_where_it_is_set():
    assert not {'sound', 'sound_visible'} & set(PackAVSegInputs()(results_of())['data_samples'].metainfo)
    sample = PackAVSegInputs()(results_of(sound='noise', sound_visible=False))['data_samples']
    assert sample.metainfo['sound'] == 'noise' and sample.metainfo['sound_visible'] is False


def test_without_labels():
    sample = PackAVSegInputs()(results_of(labels=False))['data_samples']
    assert 'gt_sem_seg' not in sample
    assert 'annotated' not in sample.metainfo
    assert sample.flip is False


def test_audio_features_of_one_row_a_frame():
    features = np.ones((3, 128))
    audio = PackAVSegInputs()(results_of(audio=features))['inputs']['audio']
    assert audio.shape == (3, 128)
    assert audio.dtype == torch.float32


def test_batches_are_lists():
    pack = PackAVSegInputs()
    batch = pseudo_collate([pack(results_of(2)), pack(results_of(3))])
    assert set(batch) == {'inputs', 'data_samples'}
    assert [x.shape for x in batch['inputs']['imgs']] == [(2, 3, 6, 8), (3, 3, 6, 8)]
    assert [len(x) for x in batch['inputs']['audio']] == [2, 3]
    assert [s.clip_id for s in batch['data_samples']] == ['c', 'c']


def test_meta_keys():
    sample = PackAVSegInputs(meta_keys=['clip_id'])(results_of())['data_samples']
    assert sample.metainfo == {'clip_id': 'c'}


def test_what_is_missing():
    results = results_of()
    del results['audio']
    with pytest.raises(ValueError, match='no audio'):
        PackAVSegInputs()(results)
    with pytest.raises(ValueError, match='3 frames but 2 rows'):
        PackAVSegInputs()(results_of(audio=np.ones((2, 128))))


def test_sound_for_naming_is_packed_where_it_is_loaded():
    rows = np.ones((3, 1, 7, 5))
    inputs = PackAVSegInputs()(results_of(naming_audio=rows))['inputs']
    assert inputs['naming_audio'].dtype == torch.float32 and inputs['naming_audio'].shape == (3, 1, 7, 5)
    assert 'naming_audio' not in PackAVSegInputs()(results_of())['inputs']
    with pytest.raises(ValueError, match='3 frames but 2 rows of naming_audio'):
        PackAVSegInputs()(results_of(naming_audio=rows[:2]))
