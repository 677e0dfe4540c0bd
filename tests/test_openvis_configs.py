# SPDX-License-Identifier: Apache-2.0
"""Configs of OpenVIS: their sizes, their start from COCO, and two iterations of each."""

import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmseg.registry import HOOKS, MODELS

# For `import tiny_model` in whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parent))

import tiny_model  # noqa: E402
from two_iterations import run_two_iterations  # noqa: E402

from ovavss_mm.engine.launch import load_config  # noqa: E402
from ovavss_mm.engine.parameters import count_parameters, mebibytes  # noqa: E402
from ovavss_mm.models.skeleton import build_skeleton, read_config  # noqa: E402
from ovavss_mm.utils.safe_loading import CheckpointError  # noqa: E402

FOLDER = tiny_model.ROOT / 'configs'
MAIN = FOLDER / 'openvis/openvis_r50_clip-vit-b32_1xb1-82k_avsbench-ov.py'
MINI = FOLDER / 'mini/openvis_mini.py'
OV_AVSS = FOLDER / 'ovavss/ovavss_r50_release.py'
LAYERS = 'model.decode_head.transformer_decoder.num_layers'


@pytest.fixture(autouse=True, scope='module')
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


# ------------------------------------------------------------------ sizes
@pytest.mark.parametrize(
    ('options', 'trainable', 'parameters', 'total'),
    [
        ({}, 149.588, 39213698, 726.666),  # the paper's row has 149.6 and 816.9, see docs/open_vocabulary.md
        ({LAYERS: 9}, 167.656, 43949954, 744.733),
        ({LAYERS: 9, 'model.classifier.clip_model': 'ViT-B-16-quickgelu'}, 167.656, 43949954, 738.414),
    ],
)
def test_sizes(options, trainable, parameters, total):
    counts = count_parameters(build_skeleton(read_config(str(MAIN), options).model))
    assert counts['all'].trainable == parameters
    assert counts['backbone'].trainable == 23454912 and counts['classifier'].trainable == 0
    found = counts['all'].total, counts['all'].trainable
    assert [round(mebibytes(count), 3) for count in found] == [total, trainable]


def test_it_is_the_released_model_without_what_hears():
    """And with Table 2's layers and CLIP; data and schedule are those of the paper."""
    openvis, release = Config.fromfile(MAIN), Config.fromfile(OV_AVSS)
    release.model.audio_encoder = release.model.neck.fusion = None
    release.model.decode_head.transformer_decoder.update(audio_prompt=dict(type='NoAudioPrompt'), num_layers=6)
    release.model.classifier.clip_model = 'ViT-B-32-quickgelu'
    release.model.classifier.init_cfg.checkpoint = 'data/weights/ViT-B-32.pt'
    release.model.test_cfg.mode = 'whole'
    assert openvis.model == release.model
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader', 'test_evaluator', 'optim_wrapper'):
        assert openvis[key] == release[key]
    assert openvis.load_from == release.load_from and openvis.train_cfg.max_iters == 82000


# ------------------------------------------------------------------ the start
def test_it_starts_from_coco_whose_last_layers_are_left_out():
    """A start of 9 layers; no other name may be left over."""
    model = build_skeleton(Config.fromfile(MAIN).model)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith(('classifier.', 'decode_head.sound_head'))}
    layer = 'decode_head.transformer_decoder.layers.'
    state |= {k.replace(f'{layer}0', f'{layer}{i}'): v for k, v in state.items() if f'{layer}0' in k for i in (6, 7, 8)}
    (hook,) = (HOOKS.build(hook) for hook in Config.fromfile(MAIN).custom_hooks)
    runner = SimpleNamespace(model=model, logger=MMLogger.get_instance('openvis'))
    hook.after_load_checkpoint(runner, dict(state_dict=state, meta=dict(ovavss_init=True)))
    with pytest.raises(CheckpointError, match='2 in the checkpoint but not in the model'):
        state |= {f'{layer}9.norms.0.weight': torch.zeros(256), 'neck.fusion.gamma_a': torch.zeros(128)}
        hook.after_load_checkpoint(runner, dict(state_dict=state, meta=dict(ovavss_init=True)))


# ------------------------------------------------------------------ training and testing
def small(path: Path) -> Config:
    """The config with small numbers."""
    config = Config.fromfile(path)
    numbers = deepcopy(tiny_model.SMALL)
    numbers.pop('audio_encoder')
    numbers['neck'].pop('fusion')
    own = {key: config.model.classifier[key] for key in ('type', 'sound_thr', 'anchor', 'mask_size')}
    numbers['classifier'].update(own)
    config.merge_from_dict(dict(model=numbers))
    return config


@pytest.mark.parametrize('path', [MAIN, MINI], ids=lambda path: path.stem)
def test_recipe_trains_for_two_iterations_and_is_evaluated(path, tmp_path):
    changed, logged = run_two_iterations(small(path) if path == MAIN else Config.fromfile(path), tmp_path)
    assert changed == {'backbone', 'neck', 'decode_head'} and 'val/mIoU' in logged


def test_it_sees_the_whole_clip_and_hears_nothing():
    """Masks of the last frame depend on the first, 6 frames before; sound changes nothing."""
    model = tiny_model.draw_weights(MODELS.build(small(MAIN).model)).eval()
    tiny_model.give_masks_edges(model.decode_head)
    imgs, audio, sample = tiny_model.make_clip(7)

    @torch.no_grad()
    def masks(imgs: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        data = tiny_model.prepare(model, [(imgs, audio, sample)])
        kept = []
        handle = model.classifier.register_forward_pre_hook(lambda module, args: kept.append(args[1].masks))
        model.predict(**data)
        handle.remove()
        (found,) = kept
        assert found.shape[1] == 7
        return found

    plain = masks(imgs, audio)
    assert torch.equal(plain, masks(imgs, audio + 1))
    other = imgs.clone()
    other[0] = 255 - other[0]
    assert not torch.allclose(plain[:, -1], masks(other, audio)[:, -1], atol=1e-4)


def test_naming_by_tokens_takes_the_same_weights():
    row = load_config(str(FOLDER / 'ablations/naming_instance-tokens.py'), '', base=str(MAIN)).model
    plain = read_config(str(MAIN)).model
    shapes = [{k: v.shape for k, v in build_skeleton(config).state_dict().items()} for config in (plain, row)]
    assert shapes[0] == shapes[1]
    assert row.pop('classifier').type == 'InstanceTokenClassifier' and plain.pop('classifier') and row == plain
