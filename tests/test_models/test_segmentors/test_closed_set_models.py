# SPDX-License-Identifier: Apache-2.0
"""TPAVI and CATR as whole models: from clips to label maps."""

import warnings

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from tiny_model import NAMES, ROOT, draw_weights, make_clip, prepare
from torch import nn

MINI = {path.stem: path for path in (ROOT / 'configs/mini').glob('*.py')}


def build(name: str, num_classes: int) -> nn.Module:
    """A mini model with drawn weights, which takes frames as they are."""
    torch.manual_seed(0)
    config = Config.fromfile(MINI[name]).model
    config.decode_head.num_classes = num_classes
    config.data_preprocessor.input_size = None
    model = draw_weights(MODELS.build(config), 0.2).eval()
    with torch.no_grad():
        model.decode_head.query_embed.weight.normal_() if 'catr' in name else None
    return model


def clips(*lengths: int) -> list[tuple]:
    torch.manual_seed(1)
    return [make_clip(n, (64, 64), torch.zeros(n, 64, 64, dtype=torch.uint8)) for n in lengths]


@torch.no_grad()
def predict(model: nn.Module, batch: list[tuple], names: tuple = NAMES) -> list:
    for clip in batch:
        clip[2].set_metainfo(dict(vocabulary=names))
    return model.predict(**prepare(model, batch))


@pytest.mark.parametrize(('name', 'classes'), [('tpavi_mini', len(NAMES) + 1), ('catr_mini', len(NAMES))])
def test_a_clip_of_a_batch_gets_what_it_gets_alone(name, classes):
    model, batch = build(name, classes), clips(10, 5, 7)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # 7 frames are filled up
        together = predict(model, batch)
        for sample, clip in zip(together, batch, strict=True):
            (alone,) = predict(model, [clip])
            label_map = sample.pred_sem_seg.data
            assert label_map.shape == clip[0].shape[:1] + (64, 64) and 'seg_logits' not in sample
            assert (label_map == alone.pred_sem_seg.data).float().mean() > 0.999
            assert set(label_map.unique().tolist()) <= set(range(len(NAMES) + 1))


@pytest.mark.parametrize('name', ['tpavi_mini_s4', 'catr_mini_s4'])
def test_a_model_of_one_class_leaves_its_logits(name):
    model = build(name, 1)
    for sample in predict(model, clips(10, 5), ('sounding',)):
        logits, label_map = sample.seg_logits.data, sample.pred_sem_seg.data
        assert logits.shape == label_map.shape and logits.dtype == torch.float32
        assert torch.equal(logits > 0, label_map == 1)


def test_another_number_of_names_is_refused():
    with pytest.raises(ValueError, match='tells background and 5 classes apart, the vocabulary has 3 names'):
        predict(build('tpavi_mini', 6), clips(5))
    with pytest.raises(ValueError, match='tells background and 1 classes apart, the vocabulary has 3 names'):
        predict(build('catr_mini_s4', 1), clips(5))


def test_a_window_that_is_filled_up_is_said():
    for name in ('tpavi_mini', 'catr_mini'):
        with pytest.warns(UserWarning, match='(TPAVI|CATR): .*clips of 7 frames'):
            predict(build(name, len(NAMES) + ('tpavi' in name)), clips(7))


def test_labels_of_two_sizes_in_a_batch():
    config = Config.fromfile(MINI['tpavi_mini']).model
    config.decode_head.num_classes = len(NAMES) + 1
    model = MODELS.build(config)
    batch = [make_clip(10, size, torch.zeros(10, *size, dtype=torch.uint8)) for size in ((64, 64), (64, 96))]
    data = prepare(model, batch)
    assert all(value.isfinite() for value in model.loss(data['inputs'], data['data_samples']).values())
