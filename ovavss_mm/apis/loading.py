# SPDX-License-Identifier: Apache-2.0
"""Finds configs, devices and weights by name, and loads weights strictly."""

import os.path as osp
import types
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from torch import nn

from ..datasets.avsbench_tasks import SOUNDING
from ..datasets.vocabulary import BACKGROUND
from ..engine.hooks.strict_checkpoint_hook import StrictCheckpointHook
from ..utils import safe_loading
from ..utils.files import last_checkpoint
from ..utils.known_weights import how_to_get, package_file
from ..utils.text import one_line

# Models that are looked for when none is named, best first: config, weights.
DEFAULT_MODELS = (
    ('ovavss_swin-b_release', 'data/weights/ovavss_swin-b_release.pth'),
    ('ovavss_r50_release', 'data/weights/ovavss_r50_release.pth'),
    ('ovavss_mini_hearing', 'work_dirs/demo/last_checkpoint'),
)
# The trained mini model that comes with the package.
MINI_WEIGHTS = 'ovavss_mm://mini_world/ovavss_mini_hearing.safetensors'


def find_config(model: str) -> str:
    """Path of a config, given by its path or by the bare name of one of the package's, such as 'ovavss_mini'.

    Raises:
        FileNotFoundError: there is no such file, and no config of that name.
    """
    if osp.isfile(model):
        return model
    configs = {path.stem: path for path in sorted(config_folder().rglob('*.py'))}
    stem = model.removesuffix('.py')
    if stem in configs:
        return str(configs[stem])
    known = ', '.join(name for name in configs if name.startswith('ovavss_'))
    raise FileNotFoundError(f'there is no config {model!r}; the package has: {known}')


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
