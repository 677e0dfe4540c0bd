# SPDX-License-Identifier: Apache-2.0
"""Configs of CLIP-VIS: their sizes and parts, and two iterations of each."""

import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

# For `import tiny_model` in whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parent))

import tiny_model  # noqa: E402
from two_iterations import run_two_iterations  # noqa: E402

from ovavss_mm.engine.parameters import count_parameters, mebibytes  # noqa: E402
from ovavss_mm.models.skeleton import build_skeleton, read_config  # noqa: E402

FOLDER = tiny_model.ROOT / 'configs'
MAIN = FOLDER / 'clip_vis/clip-vis_rn50_1xb1-82k_avsbench-ov.py'
MINI = FOLDER / 'mini/clip-vis_mini.py'
RESNET = dict(image_size=64, layers=[1, 1, 1, 1], width=8, head_width=32)


@pytest.fixture(autouse=True, scope='module')
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


# ------------------------------------------------------------------ sizes
def test_sizes_of_the_papers_row():
    model = build_skeleton(read_config(str(MAIN)).model)
    count = count_parameters(model)['all']
    assert (count.total, count.trainable) == (122765604, 20758467)
    assert (round(mebibytes(count.total), 3), round(mebibytes(count.trainable), 3)) == (468.314, 79.187)
    # the paper's 177.8 also counts what CLIP holds itself, outside its towers
    clip = model.classifier.clip_model
    held = [p for name, p in clip.named_parameters() if '.' not in name or name.startswith('token_embedding')]
    assert round(mebibytes(count.trainable + sum(p.numel() for p in held)), 3) == 177.838
    assert not any(p.requires_grad for p in (*model.backbone.parameters(), *model.classifier.parameters()))


def test_six_layers_would_have_another_size():
    model = build_skeleton(read_config(str(MAIN), {'model.decode_head.transformer_decoder.num_layers': 6}).model)
    assert round(mebibytes(count_parameters(model)['all'].total), 1) == 450.2


# ------------------------------------------------------------------ training and testing
def small(path: Path) -> Config:
    """The config with small numbers."""
    config = Config.fromfile(path)
    numbers = deepcopy(tiny_model.SMALL)
    numbers['neck'].update(in_channels=[32, 64, 128, 256])
    numbers['neck'].pop('fusion')
    numbers['decode_head']['in_channels'] = [32, 32, 32, 32]
    clip = dict(tiny_model.CLASSIFIER['clip_model'], vision_cfg=RESNET)
    parts = {key: tiny_model.CLASSIFIER[key] for key in ('tokenizer', 'templates')}
    numbers |= dict(backbone=dict(_delete_=True, type='CLIPResNet', clip_model=clip))
    numbers |= dict(classifier=dict(parts, _delete_=True, type='MaskPoolingClassifier', clip_model=clip))
    numbers.pop('audio_encoder')
    config.merge_from_dict(dict(model=numbers))
    return config


@pytest.mark.parametrize('path', [MAIN, MINI], ids=lambda path: path.stem)
def test_recipe_trains_for_two_iterations_and_is_evaluated(path, tmp_path):
    changed, logged = run_two_iterations(small(path) if path == MAIN else Config.fromfile(path), tmp_path)
    assert changed == {'neck', 'decode_head'}, 'CLIP stays as it is, running statistics too'
    assert {'train/decode.loss_iou', 'val/mIoU'} <= logged


def test_names_are_of_the_test_alone():
    """Losses do not depend on what the names are, nor on which of two objects has which."""
    model = tiny_model.draw_weights(MODELS.build(small(MAIN).model))
    tiny_model.give_masks_edges(model.decode_head)
    imgs, audio, sample = tiny_model.make_clip(3)

    def losses(shift: int) -> dict[str, torch.Tensor]:
        other = deepcopy(sample)
        labels = other.gt_sem_seg.data
        labels[(labels > 0) & (labels < 255)] += shift
        other.set_metainfo(dict(vocabulary=tuple(f'name {i}' for i in range(20 + shift))))
        data = tiny_model.prepare(model, [(imgs, audio, other)])
        torch.manual_seed(0)
        return model.loss(**data)

    first, second = losses(0), losses(7)
    assert set(first) == set(second) and all(torch.equal(first[key], second[key]) for key in first)


@torch.no_grad()
def test_frames_are_segmented_by_themselves_and_linked():
    model = tiny_model.draw_weights(MODELS.build(small(MAIN).model)).eval()
    tiny_model.give_masks_edges(model.decode_head)
    data = tiny_model.prepare(model, [tiny_model.make_clip(7)])
    (queries,) = model.encode_decode(data['inputs'])
    assert queries.masks.shape[:2] == (6, 7) and queries.dense_map.shape[:2] == (7, 256)
    one = dict(imgs=[data['inputs']['imgs'][0][4:5]], audio=[data['inputs']['audio'][0][4:5]])
    (frame,) = model.encode_decode(one)
    torch.testing.assert_close(frame.masks[queries.link_index[4], 0], queries.masks[:, 4], rtol=1e-4, atol=1e-4)
    (sample,) = model.predict(**data)
    assert sample.pred_sem_seg.data.shape[0] == 7
