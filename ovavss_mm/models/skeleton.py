# SPDX-License-Identifier: Apache-2.0
"""Models for their names and shapes only."""

import os.path as osp
from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import nn
from torch.overrides import TorchFunctionMode

from ..compat import import_quietly
from ..utils.config_check import apply_options, check_config


class _WithoutMemory(TorchFunctionMode):
    """New weights go to the 'meta' device: they have shapes but neither memory nor values.

    What is computed (positions, indices, drop path rates) stays real.
    """

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        factories = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
        if func in factories and kwargs.get('device') is None:
            kwargs['device'] = 'meta'
        return func(*args, **kwargs)


def read_config(path: str, options: dict | None = None) -> Config:
    """Read a config, with all types that it may name registered.

    Args:
        path (str): of the config file.
        options (dict, optional): values to change, by dotted key. Defaults to None.

    Returns:
        Config: The config.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: nothing reads a key, or a part does not take it.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'there is no config {path}')
    for name in ('ovavss_mm.datasets', 'ovavss_mm.models'):
        import_quietly(name)
    config = Config.fromfile(path)
    apply_options(config, options or {})
    check_config(config)
    return config


def build_skeleton(config: dict) -> nn.Module:
    """Build a model without memory for its weights and without reading any file.

    Frozen encoders keep their weights in the state dict, wherever the config has them read from.

    Args:
        config (dict): of the model.

    Returns:
        nn.Module: The model; its weights are on the 'meta' device, index buffers are real.
    """
    with _WithoutMemory(), DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(without_files(config))


def without_files(config: Any) -> Any:
    """Copy a config of a model, leaving out the files from which weights come."""
    if isinstance(config, (list, tuple)):
        return type(config)(without_files(item) for item in config)
    if not isinstance(config, dict):
        return config
    if config.get('type') == 'Pretrained':
        return None
    return ConfigDict({key: without_files(value) for key, value in config.items()})
