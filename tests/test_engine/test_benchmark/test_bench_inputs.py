# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from ovavss_mm.engine.benchmark import inputs

PIPELINE = [dict(type='SampleClipFrames', num_frames=4), dict(type='ResizeClip', short_side=(480, 240, 360))]
SHAPE = inputs.Shape(height=48, width=64, frames=3, names=5, batch=2)


def test_clips_are_as_the_loader_gives_them():
    batch = inputs.make_batch(SHAPE, PIPELINE)
    assert inputs.shape_of(batch) == SHAPE
    for img, audio in zip(batch['inputs']['imgs'], batch['inputs']['audio'], strict=True):
        assert img.shape == (3, 3, 48, 64) and img.dtype == torch.uint8
        assert audio.shape == (3, 1, 96, 64) and audio.dtype == torch.float32
        # smooth: neighbours are nearer to each other than pixels are at large
        assert (img[..., 1:].float() - img[..., :-1].float()).std() < img.float().std() / 2
    for sample in batch['data_samples']:
        assert sample.gt_sem_seg.data.shape == (3, 48, 64)
        for label_map in sample.gt_sem_seg.data:
            assert label_map.unique().tolist() == [0, 1, 2, 3]
        assert len(set(sample.vocabulary)) == 5


def test_the_same_clips_each_time_and_fewer_targets_than_names():
    one, other = (inputs.make_batch(SHAPE, PIPELINE) for _ in range(2))
    for key in ('imgs', 'audio'):
        assert torch.equal(torch.stack(one['inputs'][key]), torch.stack(other['inputs'][key]))
    assert inputs.label_maps(SHAPE._replace(names=1)).unique().tolist() == [0, 1]


def test_embeddings_where_the_pipeline_loads_them():
    pipeline = [*PIPELINE, dict(type='LoadClipAudioFeatures')]
    (audio, _) = inputs.make_batch(SHAPE, pipeline)['inputs']['audio']
    assert audio.shape == (3, 128) and audio.min() == 0


def test_sizes_follow_the_pipeline():
    assert inputs.default_size(PIPELINE) == (360, 640)
    assert inputs.default_size([dict(type='ResizeClip', short_side=96)]) == (96, 160)
    assert inputs.default_size([]) == (360, 640)
    assert inputs.default_frames(PIPELINE, 5) == 4
    assert inputs.default_frames([dict(type='SampleClipFrames', num_frames=None)], 5) == 5


def test_copies_are_written_to_and_the_original_stays():
    copy = inputs.copier(inputs.make_batch(SHAPE, PIPELINE))
    first = copy()
    first['inputs']['imgs'].pop()
    first['data_samples'][0].set_metainfo(dict(ori_shape=(1, 1)))
    del first['data_samples'][1].gt_sem_seg
    assert inputs.shape_of(copy()) == SHAPE
    assert copy()['data_samples'][0].ori_shape == (48, 64)
    assert 'gt_sem_seg' in copy()['data_samples'][1]


@pytest.mark.parametrize('names', [0, 3], ids=['none', 'three'])
def test_made_up_names(names):
    assert len(set(inputs.made_up_names(names))) == names


def test_no_data_set_where_its_root_is_not(tmp_path):
    loader = dict(dataset=dict(type='Any', data_root=str(tmp_path / 'gone')))
    assert inputs.open_dataset(dict(train_dataloader=loader), 'train') is None
    assert inputs.open_dataset({}, 'test') is None
