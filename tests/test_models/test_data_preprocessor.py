# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmseg.registry import MODELS
from tiny_model import collate, make_clip, tiny_config


@pytest.fixture(scope='module')
def preprocessor():
    return MODELS.build(tiny_config().data_preprocessor)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 70), st.integers(1, 70), st.booleans())
def test_frames_are_normalised_then_padded(preprocessor, frames, height, width, training):
    labels = torch.randint(0, 4, (frames, height, width), dtype=torch.uint8)
    clip = make_clip(frames, (height, width), labels)
    data = preprocessor(collate([clip]), training)
    img, sample = data['inputs']['imgs'][0], data['data_samples'][0]

    expected = (clip[0].float() - preprocessor.mean) / preprocessor.std
    assert torch.equal(img[..., :height, :width], expected)
    assert not img[..., height:, :].any() and not img[..., width:].any()
    padded = tuple((side + 31) // 32 * 32 for side in (height, width))
    assert img.shape == (frames, 3, *padded)
    assert sample.img_shape == (height, width) and sample.pad_shape == padded
    assert torch.equal(data['inputs']['frames'][0], clip[0])

    truth = sample.gt_sem_seg.data
    assert torch.equal(truth[..., :height, :width], labels)
    if training:
        assert truth.shape == (frames, *padded) and truth.dtype == torch.uint8
        assert (truth[..., height:, :] == 255).all() and (truth[..., width:] == 255).all()
    else:
        assert truth.shape == labels.shape


def test_clips_are_padded_each_by_itself(preprocessor):
    clips = [make_clip(5, (64, 96)), make_clip(2, (33, 64)), make_clip(1, (20, 20))]
    imgs = preprocessor(collate(clips), training=True)['inputs']['imgs']
    assert [x.shape for x in imgs] == [(5, 3, 64, 96), (2, 3, 64, 64), (1, 3, 32, 32)]


def test_size_of_the_label_map_is_kept_or_that_of_the_frames(preprocessor):
    given_size, none = make_clip(1, (20, 24)), make_clip(1, (20, 24))
    given_size[2].set_metainfo(dict(ori_shape=(100, 120)))
    del none[2].ori_shape
    samples = preprocessor(collate([given_size, none]))['data_samples']
    assert [sample.ori_shape for sample in samples] == [(100, 120), (20, 24)]


def test_samples_are_made_where_there_are_none(preprocessor):
    data = collate([make_clip(2, (20, 24))])
    del data['data_samples']
    assert preprocessor(data)['data_samples'][0].pad_shape == (32, 32)


def test_audio_becomes_float32(preprocessor):
    imgs, audio, sample = make_clip(2, (20, 24))
    audio = preprocessor(collate([(imgs, audio.double(), sample)]))['inputs']['audio'][0]
    assert audio.dtype == torch.float32


@pytest.mark.parametrize(('frames', 'rows'), [(5, 4), (0, 0), (1, 0)])
def test_each_frame_needs_a_row_of_audio(preprocessor, frames, rows):
    imgs, audio, sample = make_clip(5, (20, 24))
    clips = [make_clip(1, (20, 24)), (imgs[:frames], audio[:rows], sample)]
    with pytest.raises(ValueError, match=rf'clip noise .*\({frames}, 3.*\({rows}, 1'):
        preprocessor(collate(clips))


def test_training_needs_labels(preprocessor):
    imgs, audio, sample = make_clip(2, (20, 24))
    del sample.gt_sem_seg
    assert preprocessor(collate([(imgs, audio, sample)]))['inputs']['imgs'][0].shape[0] == 2
    with pytest.raises(ValueError, match='clip noise has no labels'):
        preprocessor(collate([(imgs, audio, sample)]), training=True)


@pytest.mark.parametrize('bad', [dict(mean=[0.5]), dict(std=[1.0] * 4), dict(size_divisor=0)])
def test_arguments_are_checked(bad):
    with pytest.raises(ValueError, match='of R, G, B and size_divisor at least 1, got'):
        MODELS.build(tiny_config().data_preprocessor | bad)


def test_other_rows_of_sound_pass(preprocessor):
    data = collate([make_clip(2, (32, 32)), make_clip(3, (32, 32))])
    data['inputs']['naming_audio'] = [torch.ones(t, 4, dtype=torch.float64) for t in (2, 3)]
    rows = preprocessor(data)['inputs']['naming_audio']
    assert [(len(x), x.dtype) for x in rows] == [(2, torch.float32), (3, torch.float32)]
    data['inputs']['naming_audio'][1] = torch.ones(2, 4)
    with pytest.raises(ValueError, match='one row of naming_audio a frame'):
        preprocessor(data)
