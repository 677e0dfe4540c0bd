# SPDX-License-Identifier: Apache-2.0
"""Finds configs, models, devices and weights by name, builds models and loads weights strictly."""

import os.path as osp
import types
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmcv.transforms import Compose
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmseg.registry import MODELS, TRANSFORMS
from torch import nn

from ..datasets.avsbench_tasks import SOUNDING
from ..datasets.transforms import LoadClipAudio, PackAVSegInputs
from ..datasets.transforms.front_ends import SoundFrontEnd, VGGishLogMel
from ..datasets.vocabulary import BACKGROUND
from ..engine.hooks.strict_checkpoint_hook import StrictCheckpointHook
from ..models.classifiers.open_vocabulary import OpenVocabularyClassifier
from ..models.layers.frozen import read_frozen
from ..utils import safe_loading
from ..utils.files import last_checkpoint
from ..utils.known_weights import how_to_get, is_hub_id, package_file
from ..utils.text import one_line
from .model_folder import CONFIG, PREPROCESSING, VOCABULARY, ModelFolder, needed_files, read_model_folder

# Models that are looked for when none is named, best first: config, weights.
DEFAULT_MODELS = (
    ('ovavss_swin-b_release', 'data/weights/ovavss_swin-b_release.pth'),
    ('ovavss_r50_release', 'data/weights/ovavss_r50_release.pth'),
    ('ovavss_mini_hearing', 'work_dirs/demo/last_checkpoint'),
)
# The trained mini model that comes with the package.
MINI_WEIGHTS = 'ovavss_mm://mini_world/ovavss_mini_hearing.safetensors'


class FoundModel(NamedTuple):
    """A model that is not built yet.

    Attributes:
        name (str): of its config.
        cfg (Config): the whole config.
        weights (str | None): path of its checkpoint; None: it needs none.
        dataset_meta (dict): ``classes``, background and the names of training, and ``base_names``, as far as known.
        checkpoint (dict | None): with ``state_dict``.
        folder (ModelFolder | None): where all this is from, if it is from a folder.
    """

    name: str
    cfg: Config
    weights: str | None
    dataset_meta: dict[str, Any]
    checkpoint: dict[str, Any] | None
    folder: ModelFolder | None = None


def find_model(model: str | Path | Config | dict, weights: str | Path | None) -> FoundModel:
    """Read the config and the weights of a model.

    Args:
        model (str | Path | Config | dict): path of a config, bare name of one of the package's, folder of a model or
            its id on the hub, in this order; or a config's content.
        weights (str | Path | None): checkpoint; a folder has its own.

    Raises:
        FileNotFoundError: config or weights are missing.
        ValueError: a file cannot be read, or ``weights`` with a folder.
    """
    weights = None if weights is None else str(weights)
    if not isinstance(model, (str, Path)):
        return _with_weights('a config object', model if isinstance(model, Config) else Config(model), weights)
    text = str(model)
    if osp.isfile(text) or text.removesuffix('.py') in _configs() or not (osp.isdir(text) or _may_be_id(text)):
        path = find_config(text)
        return _with_weights(osp.basename(path), Config.fromfile(path), weights)
    if weights is not None:
        raise ValueError(f'{text} is a model in a folder, which has weights of its own: leave out weights={weights}')
    folder = read_model_folder(fetch_model(text))
    place = None if folder.weights is None else str(folder.weights)
    checkpoint = None if place is None else read_checkpoint(place)
    return FoundModel(folder.name, folder.cfg, place, folder.dataset_meta, checkpoint, folder)


def _with_weights(name: str, cfg: Config, weights: str | None) -> FoundModel:
    """A model of a config."""
    checkpoint = None if weights is None else read_checkpoint(weights)
    meta = ((checkpoint or {}).get('meta') or {}).get('dataset_meta')
    return FoundModel(name, cfg, weights, meta if isinstance(meta, dict) else {}, checkpoint)


def _may_be_id(text: str) -> bool:
    """Whether it may be the id of a model on the hub, and is no path of a config."""
    return is_hub_id(text) and not text.endswith('.py')


def fetch_model(model: str, revision: str | None = None) -> str:
    """The folder of a model: itself, or that in the hub's cache, into which its files are downloaded if need be.

    Args:
        model (str): a folder, which wins, or an id of the hub, ``'org/name'``.
        revision (str, optional): branch, tag or commit on the hub. Defaults to None, its main branch.

    Returns:
        str: absolute path.

    Raises:
        FileNotFoundError: neither is there, or the hub cannot be reached and its cache lacks files.
        ValueError: ``revision`` with a folder, or the id is of something else than such a model.
    """
    if osp.isdir(model):
        if revision is not None:
            raise ValueError(f'{model} is a folder, and has no revision {revision!r}')
        return osp.abspath(model)
    if not _may_be_id(model):
        raise FileNotFoundError(f'there is no folder {model!r}, and ids of the hub are org/name')
    from huggingface_hub import snapshot_download

    options: dict[str, Any] = dict(revision=revision, library_name='ovavss_mm')
    try:
        place = snapshot_download(model, allow_patterns=[CONFIG, VOCABULARY, PREPROCESSING], **options)
        if osp.isfile(osp.join(place, CONFIG)):
            names = needed_files(Path(place, CONFIG))
            options['revision'] = osp.basename(place)  # the commit, should the branch move meanwhile
            place = snapshot_download(model, allow_patterns=names, **options)
    except ValueError:
        raise
    except Exception as error:  # the client fails in as many ways as networks do
        at = '' if revision is None else f' at revision {revision!r}'
        raise FileNotFoundError(
            f'{model}{at} is no folder here, not whole in the cache of the hub, and could not be downloaded '
            f'({type(error).__name__}: {one_line(error)}): check the name, and that the network is there and '
            'HF_HUB_OFFLINE is not set; or copy the folder from another computer and give its path'
        ) from error
    return place


def find_config(model: str) -> str:
    """Path of a config, given by its path or by the bare name of one of the package's, such as 'ovavss_mini'.

    Raises:
        FileNotFoundError: there is no such file, and no config of that name.
    """
    if osp.isfile(model):
        return model
    configs, stem = _configs(), model.removesuffix('.py')
    if stem in configs:
        return str(configs[stem])
    known = ', '.join(name for name in configs if name.startswith('ovavss_'))
    nor = '' if osp.isdir(model) else '; nor is there a folder of that name'
    raise FileNotFoundError(f'there is no config {model!r}; the package has: {known}{nor}')


def _configs() -> dict[str, Path]:
    """The package's configs by their bare names."""
    return {path.stem: path for path in sorted(config_folder().rglob('*.py'))}


def config_folder(package: Path = Path(__file__).parents[1]) -> Path:
    """Folder of the configs: in a wheel inside the package's folder, in a checkout beside it."""
    inside = package / '.mim' / 'configs'
    return inside if inside.is_dir() else package.parent / 'configs'


def find_default_model() -> tuple[str, str]:
    """Config and weights of the best model below the current folder, else of the package's mini model.

    Raises:
        FileNotFoundError: there is none.
    """
    for config, weights in DEFAULT_MODELS:
        if weights.endswith('last_checkpoint') and osp.isfile(weights):
            weights = last_checkpoint(osp.dirname(weights))
        if osp.isfile(weights):
            return config, weights
    shipped = package_file(MINI_WEIGHTS)
    if osp.isfile(shipped):
        return 'ovavss_mini_hearing', shipped
    raise FileNotFoundError(
        'no trained model was found: name a config and a checkpoint (--model, --weights), or\n'
        '  make demo    trains the mini model, whose names are "red-star" and the like\n'
        f'  for real videos: {how_to_get(DEFAULT_MODELS[1][1])}'
    )


def choose_device(device: str | None) -> str:
    """The device to use: what is asked for if it is there, else a GPU if there is one.

    Raises:
        ValueError: no such device.
    """
    if device is None:
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    count = torch.cuda.device_count()
    choices = ['cpu'] + (['cuda'] if count else []) + [f'cuda:{i}' for i in range(count)]
    if str(device) not in choices:
        raise ValueError(f'there is no device {str(device)!r} here; choose of {", ".join(choices)}')
    return str(device)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read the checkpoint in a local file without running anything that it names.

    Returns:
        dict: ``state_dict``, tensors on the CPU by name, and ``meta`` and what else there is.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint.
    """
    checkpoint = safe_loading.read_checkpoint(str(path))
    if not (isinstance(checkpoint, dict) and 'state_dict' in checkpoint):
        checkpoint = dict(state_dict=checkpoint)
    state, meta = checkpoint['state_dict'], checkpoint.get('meta')
    if not isinstance(state, dict) or not isinstance(meta or {}, dict):
        raise ValueError(f'{path} holds no state dict of named weights with metadata')
    wrong = next((k for k, v in state.items() if not (isinstance(k, str) and torch.is_tensor(v))), None)
    if wrong is not None:
        raise ValueError(f'{path}: {one_line(wrong)!r} in its state dict is no named tensor')
    return checkpoint


def names_of_training(checkpoint: dict[str, Any]) -> tuple[str, ...] | None:
    """Class names, without background, that mmengine noted in a checkpoint; None if it has none."""
    meta = (checkpoint.get('meta') or {}).get('dataset_meta')
    names = meta.get('classes') if isinstance(meta, dict) else None
    return tuple(name for name in names or () if name != BACKGROUND) or None


def binary_name(model: nn.Module) -> tuple[str, ...] | None:
    """The one name of a model that tells what sounds from what does not, None for others."""
    return (SOUNDING,) if model.is_binary else None


def build_model(found: FoundModel) -> nn.Module:
    """Build a model and load its weights, which must fit; one of frozen parts alone needs no checkpoint.

    Raises:
        FileNotFoundError: the weights of a frozen part are missing.
        ValueError: the config has no model, there are no weights, or they do not fit.
    """
    if found.folder is None:
        return _build_model(found)
    try:
        model = _build_model(found)
        for part in model.modules():
            if isinstance(part, OpenVocabularyClassifier) and found.folder.prompt_templates is not None:
                part.templates = found.folder.prompt_templates
        if bool(getattr(model.namer, 'open_vocabulary', False)) != found.folder.is_open:
            raise ValueError(f'{VOCABULARY} says open: {str(found.folder.is_open).lower()}, which the model is not')
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RuntimeError) as error:
        raise ValueError(f'the model in {found.folder.path} cannot be used: {one_line(error, 1000)}') from error
    return model


def _build_model(found: FoundModel) -> nn.Module:
    """Build a model and load its weights."""
    if 'model' not in found.cfg:
        raise ValueError('the config has no model')
    with warnings.catch_warnings():
        # mmseg's advice on norm layers for distributed training does not concern a prediction
        warnings.simplefilter('ignore')
        model = MODELS.build(found.cfg.model)
    if found.checkpoint is None:
        if model.state_dict():
            raise ValueError(
                'no weights were given: pass weights=PATH of a checkpoint that was trained with this config'
            )
        read_frozen(model)
        return model
    try:
        load_strictly(model, found.checkpoint, found.cfg)
    except ValueError as error:
        raise ValueError(f'{found.weights}: {error}') from error
    return model


def build_pipeline(cfg: Config, hears: bool) -> tuple[Compose, dict[str, SoundFrontEnd]]:
    """The steps of the config's test pipeline that change frames, and its sound front ends by key.

    Raises:
        ValueError: the config has no pipeline.
    """
    steps = cfg.get('test_dataloader', {}).get('dataset', {}).get('pipeline')
    if steps is None:
        raise ValueError('the config has no test_dataloader.dataset.pipeline, which says the size of frames')
    kept = []
    front_ends: dict[str, SoundFrontEnd] = dict(audio=VGGishLogMel())
    for step in steps:
        kind = TRANSFORMS.get(step['type']) if isinstance(step['type'], str) else step['type']
        if kind is not None and issubclass(kind, LoadClipAudio):
            built = TRANSFORMS.build(dict(step))
            front_ends[built.key] = built.front_end
        # reading is the source's, packing is done for whole windows
        elif not getattr(kind, 'reads_files', False) and kind is not PackAVSegInputs:
            kept.append(TRANSFORMS.build(dict(step)))
    return Compose(kept), front_ends if hears else {}


def load_strictly(model: nn.Module, checkpoint: dict[str, Any], cfg: Config | ConfigDict | None) -> None:
    """Load a checkpoint that fits the model in every name and shape.

    Args:
        model (nn.Module): the model.
        checkpoint (dict): with ``state_dict``.
        cfg (Config): the whole config; its ``StrictCheckpointHook`` may say which keys may be missing.

    Raises:
        ValueError: it does not fit, or is one that training starts from.
    """
    if (checkpoint.get('meta') or {}).get('ovavss_init'):
        raise ValueError('these weights are for the start of a training only, most of the model is not in them')
    options = {}
    for hook in (cfg or {}).get('custom_hooks') or ():
        if hook.get('type') in ('StrictCheckpointHook', StrictCheckpointHook):
            options = {key: value for key, value in hook.items() if key == 'allow_missing'}
    runner = types.SimpleNamespace(model=model, logger=MMLogger.get_current_instance())
    StrictCheckpointHook(**options).after_load_checkpoint(runner, checkpoint)
    state = {key.removeprefix('module.'): v for key, v in checkpoint['state_dict'].items()}
    model.load_state_dict(state, strict=not options)
