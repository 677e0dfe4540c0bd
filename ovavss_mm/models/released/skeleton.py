# SPDX-License-Identifier: Apache-2.0
"""Models for their names and shapes only, and the CLIP that given weights belong to."""

import os.path as osp
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ovavss_mm.compat import import_quietly

_HEAD_WIDTH = 64  # of all CLIP transformers of OpenAI; shapes do not tell


class _WithoutMemory(TorchFunctionMode):
    """New weights go to the 'meta' device: they have shapes but neither memory nor values.

    What is computed (positions, indices, drop path rates) stays real.
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        factories = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
        if func in factories and kwargs.get('device') is None:
            kwargs['device'] = 'meta'
        return func(*args, **kwargs)


def read_config(path: str, options: dict | None = None) -> Config:
    """Read a config, with all types that it may name registered.

    Args:
        path: of the config file.
        options: values to change, by dotted key.

    Returns:
        The config.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'there is no config {path}')
    for name in ('ovavss_mm.datasets', 'ovavss_mm.models'):
        import_quietly(name)
    config = Config.fromfile(path)
    config.merge_from_dict(options or {})
    return config


def build_skeleton(config: dict) -> nn.Module:
    """Build a model without memory for its weights and without reading any file.

    Frozen encoders keep their weights in the state dict, wherever the config has them read from.

    Args:
        config: of the model.

    Returns:
        The model; its weights are on the 'meta' device, index buffers are real.
    """
    with _WithoutMemory(), DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(_without_files(config))


def _without_files(config: Any) -> Any:
    """Copy a config, leaving out the files from which weights come."""
    if isinstance(config, (list, tuple)):
        return type(config)(_without_files(item) for item in config)
    if not isinstance(config, dict):
        return config
    if config.get('type') == 'Pretrained':
        return None
    return ConfigDict({key: _without_files(value) for key, value in config.items()})


def clip_config(state: Mapping[str, Tensor]) -> dict:
    """Configuration of the OpenAI CLIP with a vision transformer that weights belong to.

    Args:
        state: its state dict; only shapes are looked at.

    Returns:
        The ``clip`` of :class:`~ovavss_mm.models.CLIPSquareCropClassifier`.

    Raises:
        ValueError: a name is missing, as in CLIP with a ResNet.
    """
    try:
        patches = state['visual.conv1.weight'].shape  # (width, 3, side, side)
        positions, _ = state['visual.positional_embedding'].shape
        context, text_width = state['positional_embedding'].shape
        vocabulary = len(state['token_embedding.weight'])
        _, embed_dim = state['text_projection'].shape
    except KeyError as error:
        raise ValueError(
            f'no CLIP with a vision transformer: {error.args[0]} is missing'
        ) from error
    return dict(
        embed_dim=embed_dim,
        vision_cfg=dict(
            image_size=patches[-1] * int((positions - 1) ** 0.5),
            patch_size=patches[-1],
            width=patches[0],
            layers=_count_layers(state, 'visual.transformer.resblocks.'),
        ),
        text_cfg=dict(
            context_length=context,
            vocab_size=vocabulary,
            width=text_width,
            heads=max(1, text_width // _HEAD_WIDTH),
            layers=_count_layers(state, 'transformer.resblocks.'),
        ),
        quick_gelu=True,
    )


def _count_layers(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many blocks there are under a prefix."""
    return len({key[len(prefix) :].split('.')[0] for key in state if key.startswith(prefix)})
