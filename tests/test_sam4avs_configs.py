# SPDX-License-Identifier: Apache-2.0
"""Configs of Sam4AVS: their sizes, and what the tools make of a model without any trained weight."""

import importlib.util
import json
import sys
import types
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

# For `import tiny_model` in whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parent))

import tiny_foundation  # noqa: E402
from tiny_model import ROOT  # noqa: E402

from ovavss_mm.apis import AVSegInferencer  # noqa: E402
from ovavss_mm.engine.runner import AVRunner  # noqa: E402
from ovavss_mm.models.foundation.base import build_model  # noqa: E402
from ovavss_mm.models.skeleton import build_skeleton, read_config  # noqa: E402

MAIN = ROOT / 'configs/sam4avs/sam4avs_sam-vit-h_avsbench-ov.py'
MINI = ROOT / 'configs/mini/sam4avs_mini.py'
SHIPPED = ('clap_mini', 'grounding_dino_mini', 'sam_mini')


def load_tool(path: str) -> ModuleType:
    """Import a script of ``tools/``."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / 'tools' / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process as the scripts need it; what they change in it is undone."""
    for name, value in dict(LOCAL_RANK='0', GOMP_SPINCOUNT='10000').items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr('ovavss_mm.engine.launch.keep_freed_memory', lambda: None)
    monkeypatch.setattr(DefaultScope, '_instance_dict', DefaultScope._instance_dict.copy())


def test_sizes_of_the_published_models():
    config = read_config(str(MAIN)).model
    places = [config[part].init_cfg.checkpoint for part in ('namer', 'proposer', 'masker')]
    assert places == ['laion/clap-htsat-unfused', 'IDEA-Research/grounding-dino-base', 'facebook/sam-vit-huge']
    model = build_skeleton(config)
    parts = (model.sound_namer, model.proposer, model.masker, model.sound_namer.model.audio_model)
    millions = [round(sum(p.numel() for p in part.parameters()) / 1e6, 1) for part in parts]
    assert millions == [153.5, 232.3, 641.1, 27.5]
    assert not any(p.requires_grad for p in model.parameters())
    assert model.masker.model.config.mask_decoder_config.layer_norm_eps == 1e-5
    assert not any('VGGish' in type(m).__name__ or 'CLIP' in type(m).__name__ for m in model.modules())


def test_the_mini_twin_has_the_same_classes():
    real, mini = (read_config(str(path)) for path in (MAIN, MINI))
    steps = [[step.type for step in config.test_dataloader.dataset.pipeline] for config in (real, mini)]
    types = [[config.model[part].type for part in ('namer', 'proposer', 'masker')] for config in (real, mini)]
    assert types[0] == types[1] and steps[0] == steps[1]
    assert mini.test_dataloader.dataset.pipeline[1].front_end.type == 'CLAPLogMel'


# ------------------------------------------------------------------ the tools
@pytest.fixture(scope='module')
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mini world of a few clips."""
    folder = tmp_path_factory.mktemp('sam4avs') / 'mini'
    sizes = ('--train', '2', '--val', '2', '--test', '3', '--workers', '1')
    load_tool('dataset_converters/mini_world.py').main(['--out', str(folder), *sizes])
    return folder


@pytest.fixture(scope='module')
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mini config with tinier models, of drawn weights, in folders."""
    root = tmp_path_factory.mktemp('tiny')
    torch.manual_seed(0)
    models = dict(Clap=tiny_foundation.CLAP, GroundingDino=tiny_foundation.GROUNDING_DINO, Sam=tiny_foundation.SAM)
    classes = dict(Clap='ClapModel', GroundingDino='GroundingDinoForObjectDetection', Sam='SamModel')
    for name, numbers in models.items():
        build_model(classes[name], numbers).save_pretrained(root / name)
    tiny_foundation.roberta_tokenizer(root / 'Clap')
    tiny_foundation.bert_tokenizer(root / 'GroundingDino')
    parts = {
        part: dict(config=dict(_delete_=True, **models[name]), init_cfg=dict(checkpoint=str(root / name)))
        for part, name in dict(namer='Clap', proposer='GroundingDino', masker='Sam').items()
    }
    parts['proposer'].update(short_side=48, long_side=64)
    path = root / 'sam4avs_tiny.py'
    path.write_text(
        f'_base_ = [{str(MINI)!r}]\nmodel = {parts!r}\n'
        f'load_audio = dict(type="LoadClipAudio", front_end={tiny_foundation.FRONT_END!r})\n'
        'steps = [_base_.load_frames, load_audio, _base_.load_labels, _base_.pack]\n'
        'test_dataloader = dict(dataset=dict(pipeline=steps))\n'
    )
    return path


def run_test(config: Path, world: Path, out: Path, *options: str) -> dict:
    """The figures of ``tools/test.py CONFIG none``."""
    names = [f'{key}={config.stem}_{out.name}' for key in ('experiment_name', 'visualizer.name')]
    options = [f'test_dataloader.dataset.data_root={world}', 'test_dataloader.num_workers=0', *names, *options]
    options.append('test_dataloader.persistent_workers=False')
    load_tool('test.py').main([str(config), 'none', '--work-dir', str(out), '--cfg-options', *options])
    (path,) = [path for path in out.glob('*/*.json') if path.stem == path.parent.name]
    return json.loads(path.read_text())


def test_it_is_tested_without_a_checkpoint_and_the_same_each_time(tiny, world, tmp_path):
    first, second = (run_test(tiny, world, tmp_path / name) for name in 'ab')
    assert {'mIoU', 'base_mIoU', 'novel_mIoU'} <= set(first)
    same = [key for key in first if 'mIoU' in key]
    assert [first[key] for key in same] == pytest.approx([second[key] for key in same], nan_ok=True)


def test_training_says_that_nothing_is_trained(tiny, world, tmp_path):
    options = [f'{split}_dataloader.dataset.data_root={world}' for split in ('train', 'val')]
    with pytest.raises(SystemExit, match='Sam4AVS is made of frozen models, nothing is trained: test it, with --check'):
        load_tool('train.py').main([str(tiny), '--work-dir', str(tmp_path), '--cfg-options', *options])


def test_several_processes_do_not_wrap_what_has_no_gradient():
    """torch's wrapper refuses it."""
    runner, model = types.SimpleNamespace(distributed=True), torch.nn.Linear(1, 1).requires_grad_(False)
    assert AVRunner.wrap_model(runner, None, model) is model


def test_a_trained_model_is_not_tested_without_a_checkpoint(world, tmp_path):
    with pytest.raises(SystemExit, match='AVEncoderDecoder has trained weights: name a checkpoint to test'):
        run_test(ROOT / 'configs/mini/ovavss_mini.py', world, tmp_path)


def test_own_videos_get_own_names_without_weights(tiny, tmp_path):
    inferencer = AVSegInferencer(Config.fromfile(tiny), device='cpu', show_progress=False)
    frames = torch.randint(256, (7, 48, 64, 3), dtype=torch.uint8).numpy()
    sound = (torch.randn(3 * 22050) / 9).numpy()  # shorter, and at another rate
    source = dict(frames=frames, sound=sound, sample_rate=22050)
    classes = ['red star', 'a-name-that-is-longer-than-the-detector-reads']
    with pytest.warns(UserWarning, match='1 names are longer than the text encoder reads'):
        results = inferencer(
            source, classes=classes, synonyms={'red star': ['comet']}, out_dir=str(tmp_path), no_save_vis=True
        )
    (prediction,) = results['predictions']
    assert prediction['vocabulary'] == classes and prediction['weights'] is prediction['min_sound_score'] is None
    with pytest.raises(ValueError, match='min_sound_score has no effect'):
        inferencer(source, classes=classes, min_sound_score=0.5)
    assert set(prediction['names']) <= set(classes) and len(list(tmp_path.glob('pred/*/*.png'))) == 7


@pytest.mark.skipif(
    not all((ROOT / 'ovavss_mm/mini_world' / name).is_dir() for name in SHIPPED), reason='the models do not ship yet'
)
def test_the_models_that_ship_know_the_mini_world(world, tmp_path):
    figures = run_test(MINI, world, tmp_path)
    assert figures['mIoU'] > 5
