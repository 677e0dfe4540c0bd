# SPDX-License-Identifier: Apache-2.0
import pickle

import numpy as np
import pytest
import torch

from ovavss_mm.models.released import coco
from ovavss_mm.models.released.checkpoints import CheckpointError


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'a.pkl'


def read(path, content) -> dict:
    path.write_bytes(pickle.dumps(content, 4))
    return coco.read_coco(str(path))


def test_arrays_become_tensors(path):
    model = {'a': np.ones((2, 3), np.float32), 'b': np.arange(3), 'c': np.arange(3, dtype='>f4')}
    state = read(path, {'model': model, '__author__': 'third party', 'matching_heuristics': True})
    assert state['a'].dtype == torch.float32 and state['b'].dtype == torch.int64
    assert state['c'].tolist() == [0, 1, 2]
    state['a'].zero_()  # the memory is ours


def test_first_versions_had_the_pixel_decoder_in_the_head(path):
    zero = np.zeros(1, np.float32)
    names = ('mask_features.bias', 'predictor.query_feat.weight', 'pixel_decoder.layer_1.weight')
    state = read(path, {'model': {f'sem_seg_head.{name}': zero for name in names}})
    assert sorted(state) == [
        'sem_seg_head.pixel_decoder.layer_1.weight',
        'sem_seg_head.pixel_decoder.mask_features.bias',
        'sem_seg_head.predictor.query_feat.weight',
    ]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([1], 'it holds a list'),
        ({'a': 1}, 'it holds the keys a'),
        ({'model': {}}, "no weights under 'model'"),
        ({'model': {'a': 1.0}}, "'a' is a float, not a tensor"),
        ({'model': {'a': np.ones(1, np.longdouble)}}, "'a' is a ndarray, not a tensor"),
        ({'model': {'a': np.array([None])}}, 'object, not of numbers'),
        ({'model': print}, 'asks for builtins.print'),
    ],
)
def test_other_content_is_refused(path, content, message):
    with pytest.raises(CheckpointError, match=message):
        read(path, content)


def test_missing_file_is_named():
    with pytest.raises(CheckpointError, match='gone.pkl'):
        coco.read_coco('gone.pkl')


def test_class_head_is_left_out_and_all_else_keeps_its_rules():
    state = {
        'sem_seg_head.predictor.class_embed.weight': torch.zeros(81, 256),
        'sem_seg_head.predictor.class_embed.bias': torch.zeros(81),
        'criterion.empty_weight': torch.zeros(81),
        'sem_seg_head.predictor.static_query.weight': torch.zeros(100, 256),
        'odd': torch.zeros(1),
    }
    result = coco.convert_coco(state)
    assert list(result.dropped) == list(state)[:3]
    assert list(result.state) == ['decode_head.query_feat.weight']
    assert list(result.unplaced) == ['odd']


def test_fresh_weights_are_sorted_by_purpose():
    keys = [
        'neck.fusion.gamma_v',
        'decode_head.sound_head.bias',
        'classifier.clip_model.a',
        'audio_encoder.b',
    ]
    groups = coco.fresh_keys([*keys, 'decode_head.query_feat.weight'])
    assert groups == {
        'early fusion of sound and sight': keys[:1],
        'sound head': keys[1:2],
        'frozen, from a file of its own': keys[2:],
        'not in the file': ['decode_head.query_feat.weight'],
    }
