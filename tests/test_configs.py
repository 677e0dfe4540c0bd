# SPDX-License-Identifier: Apache-2.0
"""Every config that ships: loads from disk, builds, and holds the numbers of the paper."""

import fnmatch
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmseg.registry import (
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    VISBACKENDS,
    VISUALIZERS,
)
from safetensors.numpy import save_file
from torch import nn
from torch.overrides import TorchFunctionMode

from ovavss_mm.datasets.audio_features import SILENCE, features_meta

# For `import archive` in whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parent))

import archive  # noqa: E402
import tiny_model  # noqa: E402

FOLDER = tiny_model.ROOT / 'configs'
CONFIGS = sorted(path for path in FOLDER.rglob('*.py') if '_base_' not in path.parts)
R50 = FOLDER / 'ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py'
SWIN = FOLDER / 'ovavss/ovavss_swin-b_clip-vit-l14-336_1xb1-82k_avsbench-ov.py'
MINI_SWIN = FOLDER / 'mini/ovavss_mini_swin.py'


@pytest.fixture(autouse=True, scope='module')
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(scope='module')
def load():
    """Function that gives a config of its own; each file is read once."""
    read = {path: Config.fromfile(path) for path in CONFIGS}
    return lambda path: deepcopy(read[path])


class SkipInit(TorchFunctionMode):
    """Leave weights as memory gives them: large models are built in no time."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name, module = getattr(func, '__name__', ''), getattr(func, '__module__', '')
        if module == 'torch.nn.init' or name in ('uniform_', 'normal_'):
            return args[0] if args else kwargs['tensor']
        return func(*args, **kwargs)


def build(config: Config) -> nn.Module:
    """The config's model with weights that mean nothing."""
    with SkipInit():
        return MODELS.build(config.model)


def mebibytes(parameters) -> float:
    return round(sum(parameter.numel() for parameter in parameters) * 4 / 2**20, 1)


every_config = pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
TRAINED = [path for path in CONFIGS if not path.stem.startswith('sam4avs_')]
every_trained_config = pytest.mark.parametrize('path', TRAINED, ids=lambda path: path.stem)


# ------------------------------------------------------------------ all of them
def test_there_are_configs_and_a_name_is_met_once():
    """By a bare name mim finds a config in the whole checkout, and takes no second hit."""
    names = [path.name for path in FOLDER.rglob('*.py')]
    assert {R50, SWIN, FOLDER / 'mini/ovavss_mini.py'} <= set(CONFIGS)
    assert not {name for name in names if names.count(name) > 1}


@every_config
def test_model_builds_without_reading_a_file(load, path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f'{args} was read in a constructor')

    for reader in ('torch.load', 'torch.jit.load', 'safetensors.torch.load_file'):
        monkeypatch.setattr(reader, refuse)
    config = load(path)
    assert config.default_scope == 'mmseg'
    model = build(config)
    assert any(parameter.requires_grad for parameter in model.parameters()) == (path in TRAINED)


@pytest.mark.parametrize('name', ['ovavss_mini', 'ovavss_mini_clip-rn'])
def test_mini_model_finds_its_files_from_any_folder(load, name, tmp_path, monkeypatch):
    """CLIP's weights and tokenizer ship in the package; the config may have been copied away."""
    config = load(FOLDER / f'mini/{name}.py')
    config.dump(tmp_path / 'copy.py')
    monkeypatch.chdir(tmp_path)
    classifier = MODELS.build(Config.fromfile('copy.py').model.classifier)
    classifier.init_weights()
    embeddings = classifier.text_embeddings(('red-star', 'blue-disc'))
    assert embeddings.shape == (2, 64) and not torch.equal(*embeddings)


@every_config
@pytest.mark.parametrize('kind', ['train', 'val', 'test'])
def test_dataset_feeds_the_model(load, path, kind, data_root):
    """The pipeline as it ships, on an archive of a few clips, up to the input of the backbone."""
    config = load(path)
    loader = config[f'{kind}_dataloader']
    loader.dataset.update(data_root=str(data_root))
    if loader.dataset.type == 'AVSBenchOVDataset':
        loader.dataset.update(base_names='base_names.txt')
    for transform in loader.dataset.pipeline:
        if 'features' in transform:
            transform.update(features=str(data_root / 'features'), weights=str(data_root / 'weights'))
    dataset = DATASETS.build(loader.dataset)
    items = [dataset[0], dataset[len(dataset) - 1]]
    clips = [(item['inputs']['imgs'], item['inputs']['audio'], item['data_samples']) for item in items]
    preprocessor = MODELS.build(config.model.data_preprocessor)
    data = preprocessor(tiny_model.collate(clips), training=kind == 'train')
    for img, sample in zip(data['inputs']['imgs'], data['data_samples'], strict=True):
        labels = sample.gt_sem_seg.data
        # training clips of the archive have 5 or 10 frames
        wanted = loader.dataset.pipeline[0].get('num_frames') if kind == 'train' else None
        allowed = {min(wanted, n) for n in (5, 10)} if wanted else {len(sample.frame_paths)}
        filled = kind == 'train' and preprocessor.num_frames
        assert len(img) == len(labels) and len(img) in ({filled} if filled else allowed)
        assert img.shape[-2] % 32 == img.shape[-1] % 32 == 0
        cropped = loader.dataset.pipeline[-2].get('size') or loader.dataset.pipeline[-3].get('size')
        trained = (cropped, cropped) if cropped else img.shape[-2:]
        steps = [step.type for step in loader.dataset.pipeline]
        if 'ResizeClip' in steps[: steps.index('LoadClipLabels')]:  # labels keep the size that frames had
            trained = archive.SIZE
        assert labels.shape[-2:] == (trained if kind == 'train' else archive.SIZE)
        binary = loader.dataset.get('task') in ('s4', 'ms3') or loader.dataset.get('binary')
        assert tuple(sample.vocabulary) == (('sounding',) if binary else archive.NAMES)


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    """An archive, and beside its clips embeddings of their sounds."""
    clips = (*archive.CLIPS, archive.Clip('val_many', 'dog_bird', 'val', 'v1m'))
    root = archive.write_archive(tmp_path_factory.mktemp('configs') / 'archive', clips)
    (root / 'weights').write_bytes(b'weights that made the embeddings')
    rows = {f'{c.subset}/{c.uid}': np.zeros((10, 128), np.float32) for c in archive.CLIPS}
    rows[SILENCE] = np.zeros((1, 128), np.float32)
    save_file(rows, root / 'features', features_meta(root / 'weights'))
    return root


@every_config
def test_all_else_is_registered(load, path):
    config = load(path)
    for key in ('val_evaluator', 'test_evaluator'):
        evaluators = config[key] if isinstance(config[key], list) else [config[key]]
        assert all(METRICS.build(evaluator) for evaluator in evaluators)
    registries = [
        (HOOKS, config.default_hooks.values()),
        (HOOKS, config.get('custom_hooks', [])),
        (LOOPS, [config.train_cfg, config.val_cfg, config.test_cfg]),
        (OPTIM_WRAPPERS, [config.optim_wrapper]),
        (OPTIMIZERS, [config.optim_wrapper.optimizer]),
        (PARAM_SCHEDULERS, config.get('param_scheduler', [])),
        (VISUALIZERS, [config.visualizer]),
        (VISBACKENDS, config.vis_backends),
    ]
    for registry, parts in registries:
        for part in parts:
            assert registry.get(part.type) is not None, part.type


@every_config
def test_schedule_fits_the_iterations(load, path):
    config = load(path)
    last = config.train_cfg.max_iters
    schedulers = config.get('param_scheduler', [])  # none: the learning rate is constant
    assert max((scheduler.end for scheduler in schedulers), default=last) == last
    for scheduler in schedulers:
        assert all(at < last for at in scheduler.get('milestones', []))
    assert 0 < config.train_cfg.val_interval <= last


@every_trained_config
def test_optimizer_rules_each_match_something(load, path):
    """A rule holds for the parameters whose name begins with it: one that is misspelt is silent."""
    config = load(path)
    rules = set(config.optim_wrapper.get('paramwise_cfg', {}).get('custom_keys', ()))
    if path.parent.name in ('ablations', 'baselines') or not config.model.get('audio_encoder'):
        rules -= {'decode_head.audio_embed'}  # a part of the model that rows, and models without sound, take away
    names = [name for name, _ in build(config).named_parameters()]
    for rule in rules:
        assert fnmatch.filter(names, f'{rule}.*') or rule in names or fnmatch.filter(names, rule), rule


# ------------------------------------------------------------------ the paper's numbers
@pytest.mark.parametrize(
    ('path', 'total', 'trainable'), [(R50, 1029.6, 183.6), (SWIN, 2331.4, 423.7)], ids=['R50', 'Swin-B']
)
def test_sizes_are_those_of_table_2(load, path, total, trainable):
    model = build(load(path))
    frozen_norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.BatchNorm2d)
        for parameter in module.parameters()
    }
    counted = [p for p in model.parameters() if id(p) not in frozen_norms]
    assert mebibytes(counted) == total
    assert mebibytes(p for p in counted if p.requires_grad) == trainable


@pytest.mark.parametrize(
    ('path', 'lr', 'backbone_lr', 'max_norm', 'batch'),
    [(R50, 1e-4, 1e-5, 0.01, 1), (SWIN, 1e-4, 1e-5, 0.01, 1), (MINI_SWIN, 1e-3, 1e-3, 0.1, 4)],
    ids=['R50', 'Swin-B', 'mini Swin'],
)
def test_learning_rates_and_weight_decay(load, path, lr, backbone_lr, max_norm, batch):
    """A tenth in the full-size backbones; 0.05, none on norms, embeddings and position biases."""
    config = load(path)
    model = build(config)
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    groups = {id(p): group for group in optimizer.param_groups for p in group['params']}
    norms_and_embeddings = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.Embedding)
    spared = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, norms_and_embeddings)
        for parameter in module.parameters()
    }
    for name, parameter in model.named_parameters():
        assert (id(parameter) in groups) == parameter.requires_grad, name
        if parameter.requires_grad:
            group = groups[id(parameter)]
            wanted = backbone_lr if name.startswith('backbone.') else lr
            assert group['lr'] == pytest.approx(wanted), name
            none = id(parameter) in spared or 'relative_position_bias_table' in name
            assert group['weight_decay'] == (0 if none else 0.05), name
    assert config.optim_wrapper.clip_grad.max_norm == max_norm
    assert config.train_dataloader.batch_size == batch


@pytest.mark.parametrize('path', [R50, SWIN], ids=['R50', 'Swin-B'])
def test_rules_of_the_backbone_are_not_those_of_an_audio_encoder_with_one(load, path):
    config = load(path)
    model = nn.Module()
    model.audio_encoder = nn.Module()
    part = nn.ModuleDict(dict(conv=nn.Conv2d(1, 1, 1), norm1=nn.LayerNorm(1)))
    part.relative_position_bias_table = nn.Parameter(torch.zeros(1))
    model.audio_encoder.backbone = part
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    assert {group['lr'] for group in optimizer.param_groups} == {1e-4}
    decay = [group['weight_decay'] for group in optimizer.param_groups]
    assert decay == [0.05, 0.05, 0.05, 0, 0]  # the table, the convolution; the norm


@every_trained_config
def test_number_of_frames_is_said_once(load, path):
    """Training clips, the decoder's learned positions and the windows of a test agree."""
    config = load(path)
    sampled = config.train_dataloader.dataset.pipeline[0].get('num_frames', config.num_frames)
    head = config.model.get('decode_head', {})
    assert sampled == head.get('num_frames', sampled) == config.model.test_cfg.window
    assert sampled == config.model.data_preprocessor.get('num_frames', sampled) == config.num_frames


@pytest.mark.parametrize('name', ['r50', 'swin-b'])
def test_released_models_differ_where_they_must_and_nowhere_else(load, name):
    paper, release = (
        load(path) for path in (R50 if name == 'r50' else SWIN, FOLDER / f'ovavss/ovavss_{name}_release.py')
    )
    criterion, classifier = release.model.decode_head.criterion, release.model.classifier
    assert criterion.loss_mask.pop('type') == 'mmdet.CrossEntropyLoss'
    assert criterion.loss_mask.pop('use_sigmoid') is True
    assert criterion.match_costs[1].pop('type') == 'mmdet.CrossEntropyLossCost'
    assert criterion.match_costs[1].pop('use_sigmoid') is True
    assert (classifier.sound_thr, classifier.anchor, classifier.mask_size) == (None, 'corner', 'padded')
    assert release.train_cfg.max_iters == release.param_scheduler[0].end == 96228
    assert release.param_scheduler[0].milestones == [72171, 88209]
    assert paper.train_cfg.max_iters == paper.param_scheduler[0].end == 82000
    assert paper.param_scheduler[0].milestones == [72171]
    # with these undone, the two are one
    ours = paper.model.decode_head.criterion
    ours.loss_mask.pop('type')
    for key in ('type', 'binary_input'):
        ours.match_costs[1].pop(key)
    paper.model.classifier.update(sound_thr=None, anchor='corner', mask_size='padded')
    assert release.model == paper.model
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader', 'test_evaluator', 'optim_wrapper'):
        assert release[key] == paper[key]


# ------------------------------------------------------------------ a step and a prediction
def step(model: nn.Module, clip: tuple) -> dict:
    """Losses of a clip, with gradients, in training mode."""
    losses = model.train().loss(**tiny_model.prepare(model, [clip], training=True))
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    return losses


@torch.no_grad()
def predict(model: nn.Module, clip: tuple):
    return model.eval().predict(**tiny_model.prepare(model, [clip]))[0]


def test_full_size_model_trains_and_predicts(load):
    """The R50 model as it ships, with drawn weights, on two small frames."""
    config = load(R50)
    for part in (config.model.classifier, config.model.audio_encoder):
        part.init_cfg = None
    model = MODELS.build(config.model)
    model.decode_head.init_weights()
    clip = tiny_model.make_clip(2)
    losses = step(model, clip)
    assert len(losses) == 3 * 10 and all(value.isfinite() for value in losses.values())
    model.zero_grad()

    clip[2].set_metainfo(dict(vocabulary=('dog', 'emergency-car')))
    inputs = tiny_model.prepare(model.eval(), [clip])['inputs']
    imgs, audio = torch.stack(inputs['imgs']), torch.stack(inputs['audio'])
    with torch.no_grad():
        features = model.extract_feat(imgs, audio)
        extracted = model.extract_feat(imgs, model.audio_encoder(audio[0])[None])
        queries = model.decode_head.predict(features)[0]
    assert torch.equal(features[1], extracted[1]), 'VGGish may have run before, features on disk'
    assert queries.masks.shape == (100, 2, 16, 24)
    # CLIP at full size is slow: only the three that sound most
    model.classifier.sound_thr = queries.scores.topk(4).values[-1].item()
    result = predict(model, clip)
    assert result.pred_sem_seg.data.shape == (2, 64, 96)
    assert set(result.pred_queries.sound_scores.tolist()) <= set(queries.scores.topk(3).values.tolist())


def test_small_swin_trains_and_predicts(load):
    config = load(SWIN)
    swin = dict(embed_dims=16, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8], window_size=4)
    small = deepcopy({key: value for key, value in tiny_model.SMALL.items() if key != 'backbone'})
    small['neck']['in_channels'] = [16, 32, 64, 128]
    small['decode_head']['in_channels'] = [16, 32, 32, 32]
    config.merge_from_dict(dict(model=dict(small, backbone=swin)))
    config.model.classifier.sound_thr = None
    model = tiny_model.draw_weights(MODELS.build(config.model), 0.05)
    clip = tiny_model.make_clip(2, (50, 70))
    assert all(value.isfinite() for value in step(model, clip).values())
    assert predict(model, clip).pred_sem_seg.data.shape == (2, 50, 70)
