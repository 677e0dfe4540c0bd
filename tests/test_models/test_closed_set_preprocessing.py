# SPDX-License-Identifier: Apache-2.0
"""How clips come to one length and size before a closed-set model."""

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.nn import functional as F

from ovavss_mm.models import AVSegDataPreProcessor

NORM = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


def batch(*lengths: int, size: tuple[int, int] = (32, 64)) -> dict:
    torch.manual_seed(0)
    samples = []
    for frames in lengths:
        samples.append(SegDataSample())
        samples[-1].gt_sem_seg = PixelData(data=torch.zeros(frames, *size, dtype=torch.uint8))
    imgs = [torch.randint(0, 256, (n, 3, *size), dtype=torch.uint8) for n in lengths]
    audio = [torch.ones(n, 4) for n in lengths]
    return dict(inputs=dict(imgs=imgs, audio=audio), data_samples=samples)


def test_shorter_training_clips_are_filled_up_after_normalisation():
    data = AVSegDataPreProcessor(**NORM, num_frames=10)(batch(5, 10), training=True)
    short, long = data['data_samples']
    assert (short.valid_frames, long.valid_frames) == (5, 10)
    for key in ('imgs', 'audio'):
        assert len(data['inputs'][key][0]) == len(data['inputs'][key][1]) == 10
        assert (data['inputs'][key][0][5:] == 0).all() and (data['inputs'][key][0][:5] != 0).all()
    assert (short.gt_sem_seg.data[5:] == 255).all() and (short.gt_sem_seg.data[:5] == 0).all()


def test_clips_of_a_test_keep_their_length():
    data = AVSegDataPreProcessor(**NORM, num_frames=10)(batch(5, 7))
    assert [len(x) for x in data['inputs']['imgs']] == [5, 7]


def test_frames_come_to_the_input_size_and_labels_keep_theirs():
    data = batch(2, size=(30, 50))
    out = AVSegDataPreProcessor(**NORM, input_size=(64, 32))(data, training=True)
    assert out['inputs']['imgs'][0].shape == (2, 3, 64, 32)
    (sample,) = out['data_samples']
    assert sample.gt_sem_seg.data.shape == (2, 30, 50)
    assert sample.img_shape == sample.pad_shape == (30, 50), 'the network sees all of the frames and no padding'
    plain = AVSegDataPreProcessor(**NORM, size_divisor=1)(data)['inputs']['imgs'][0]
    wanted = F.interpolate(plain, (64, 32), mode='bilinear', antialias=True)
    assert torch.allclose(out['inputs']['imgs'][0], wanted)


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match=r'multiples of size_divisor \(32\), or None, got None and \(48, 64\)'):
        AVSegDataPreProcessor(**NORM, input_size=(48, 64))
    with pytest.raises(ValueError, match='got 0 and None'):
        AVSegDataPreProcessor(**NORM, num_frames=0)
