# SPDX-License-Identifier: Apache-2.0
import logging
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import published
import pytest
import torch

from ovavss_mm.engine.hooks import StrictCheckpointHook
from ovavss_mm.models.skeleton import build_skeleton, read_config

tool = published.load_tool('model_converters/mask2former_detectron2.py')
BACKBONES = ['r50', 'swin-b']
# Parts of the names of what Mask2Former does not have.
OURS_ALONE = ('audio', 'vl_layer', 'v2a', 'a2a', 'clip_adapter')
MAIN = {
    'r50': 'configs/ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py',
    'swin-b': 'configs/ovavss/ovavss_swin-b_clip-vit-l14-336_1xb1-82k_avsbench-ov.py',
}


def coco_arrays(backbone: str) -> dict[str, np.ndarray]:
    """A checkpoint of Mask2Former on COCO; weights of the neck and head are small draws."""
    rng, arrays = np.random.RandomState(0), {}
    for key, shape in published.shapes(backbone).items():
        if any(part in key for part in OURS_ALONE):
            continue
        key = key.replace('query_feat', 'static_query')
        shape = [81, *shape[1:]] if 'class_embed' in key or 'empty_weight' in key else shape
        if key.endswith('index'):
            arrays[key] = np.zeros(shape, np.int64)
        else:
            arrays[key] = np.full(shape, rng.rand(), np.float32)
    return arrays


@pytest.fixture(scope='module')
def arrays() -> dict:
    return {name: coco_arrays(name) for name in BACKBONES}


@pytest.fixture
def convert(tmp_path):
    """Function that writes a pickle and returns the arguments of the tool."""

    def arguments(content: object, *options: str) -> list[str]:
        (tmp_path / 'in.pkl').write_bytes(pickle.dumps(content, 4))
        return [str(tmp_path / 'in.pkl'), str(tmp_path / 'out.pth'), *options]

    return arguments


@pytest.mark.parametrize('backbone', BACKBONES)
def test_what_mask2former_has_is_loaded_and_the_rest_stays_fresh(arrays, convert, backbone, capsys):
    args = convert({'model': arrays[backbone], '__author__': 'third party'})
    tool.main(args)
    printed = capsys.readouterr().out
    content = torch.load(args[1], weights_only=True)
    os.remove(args[0]), os.remove(args[1])
    state, meta = content['state_dict'], content['meta']
    assert meta['ovavss_init'] is True and meta['backbone'] == backbone
    query = arrays[backbone]['sem_seg_head.predictor.static_query.weight']
    np.testing.assert_array_equal(state['decode_head.query_feat.weight'], query)
    for name in ('sound_head', 'audio_', 'audio_prompt', 'fusion', 'classifier', 'audio_encoder'):
        assert not [key for key in state if name in key]
    assert 'class_embed.weight: COCO classes' in printed and '2 of the sound head' in printed

    # the runner takes it for a start, and only for that
    model = build_skeleton(read_config(str(published.ROOT / MAIN[backbone])).model)
    fresh = set(model.state_dict()) - set(state)
    assert f'fresh, as initialised: {len(fresh)} keys' in printed and set(state) < set(model.state_dict())
    runner = SimpleNamespace(model=model, logger=logging.getLogger('test'))
    StrictCheckpointHook().after_load_checkpoint(runner, content)
    with pytest.raises(ValueError, match='in the model but not in the checkpoint'):
        StrictCheckpointHook().after_load_checkpoint(runner, dict(state_dict=state, meta={}))


def test_verbose_lists_every_key(arrays, convert, capsys):
    tool.main(convert({'model': arrays['r50']}, '--verbose'))
    printed = capsys.readouterr().out
    assert 'backbone.stem.conv1.weight -> backbone.conv1.weight' in printed
    assert '    decode_head.sound_head.bias' in printed
    assert all(key in printed for key in arrays['r50'])


# ------------------------------------------------------------------ bad input
KEY = 'sem_seg_head.predictor.query_embed.weight'


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({KEY: np.zeros((100, 256), np.float16)}, f'{KEY} (100, 256) is torch.float16'),
        ({KEY: np.zeros((100, 8), np.float32)}, 'decode_head.query_embed.weight is (100, 8), expected (100, 256)'),
        ({KEY: None}, '1 missing: decode_head.query_embed.weight'),
        ({'odd': np.zeros(1, np.float32)}, 'odd: no rule knows this name'),
        ({KEY: np.array([None])}, 'is no number'),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(arrays, convert, changes, message):
    model = {k: v for k, v in {**arrays['r50'], **changes}.items() if v is not None}
    args = convert({'model': model})
    assert message in published.error_of(tool.main, args)
    assert os.listdir(Path(args[1]).parent) == ['in.pkl']


class Call:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_is_refused_and_not_run(convert, tmp_path):
    args = convert({'model': {'a': np.ones(1)}, 'x': Call(tmp_path / 'it ran')})
    error = published.error_of(tool.main, args)
    assert 'mkdir. A file that is more than data' in error
    assert os.listdir(tmp_path) == ['in.pkl']


def test_other_files_are_refused(arrays, convert, tmp_path):
    target = str(tmp_path / 'out.pth')
    assert 'gone.pkl' in published.error_of(tool.main, ['gone.pkl', target])
    assert 'holds no state dict' in published.error_of(tool.main, convert([1, 2]))
    (tmp_path / 'cut.pkl').write_bytes(pickle.dumps({'model': {'a': np.ones(999)}})[:500])
    error = published.error_of(tool.main, [str(tmp_path / 'cut.pkl'), target])
    assert 'cannot be read as a checkpoint' in error and not os.path.exists(target)


def test_config_of_another_backbone_is_refused(arrays, convert):
    args = convert({'model': arrays['r50']}, '--config', str(published.ROOT / MAIN['swin-b']))
    error = published.error_of(tool.main, args)
    assert 'backbone.conv1.weight is backbone.stem.conv1.weight' in error
    assert os.listdir(Path(args[1]).parent) == ['in.pkl']


# ------------------------------------------------------------------ names
def test_first_versions_had_the_pixel_decoder_in_the_head():
    names = ('mask_features.bias', 'predictor.query_feat.weight', 'pixel_decoder.layer_1.weight')
    state = tool.rename_first_versions({f'sem_seg_head.{name}': 0 for name in names})
    assert sorted(state) == [
        'sem_seg_head.pixel_decoder.layer_1.weight',
        'sem_seg_head.pixel_decoder.mask_features.bias',
        'sem_seg_head.predictor.query_feat.weight',
    ]


def test_fresh_weights_are_sorted_by_purpose():
    keys = ['neck.fusion.gamma_v', 'decode_head.sound_head.bias', 'classifier.clip_model.a', 'audio_encoder.b']
    groups = tool.fresh_keys([*keys, 'decode_head.query_feat.weight'])
    assert groups == {
        'early fusion of sound and sight': keys[:1],
        'sound head': keys[1:2],
        'frozen, from a file of its own': keys[2:],
        'not in the file': ['decode_head.query_feat.weight'],
    }
