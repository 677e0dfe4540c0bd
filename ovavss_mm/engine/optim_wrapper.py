# SPDX-License-Identifier: Apache-2.0
"""Skips updates that would make weights infinite or NaN; learning rates of parameters by their full names."""

import logging
import math
from fnmatch import fnmatchcase
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ..utils.config_check import check_known
from ..utils.text import shorten

# Keys of paramwise_cfg that mmengine's constructor looks up.
PARAMWISE = {'custom_keys', 'bypass_duplicate', 'dcn_offset_lr_mult', 'bias_lr_mult', 'bias_decay_mult'}
PARAMWISE |= {'norm_decay_mult', 'dwconv_decay_mult', 'flat_decay_mult'}


@OPTIM_WRAPPERS.register_module()
class FiniteOptimWrapper(OptimWrapper):
    """mmengine's wrapper, which skips an update if the norm of the gradients is not finite.

    Gradients are the same in all processes, so all of them skip an update or none. The state of the optimizer stays
    as it was.

    Attributes:
        skipped (bool): whether the last batch led to an update that was skipped.
    """

    skipped = False

    def update_params(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Update as mmengine does, with :meth:`step`."""
        self.skipped = False
        super().update_params(loss, *args, **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Clip gradients, and update if their norm is finite."""
        if self.clip_grad_kwargs:
            self._clip_grad()
        self.skipped = not math.isfinite(self._grad_norm())
        if not self.skipped:
            self.optimizer.step(**kwargs)

    def _grad_norm(self) -> float:
        """Norm of the gradients: the one that clipping has logged, if there is one."""
        params = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        if params and self.clip_grad_kwargs and self.clip_func is clip_grad_norm_:
            return self.message_hub.get_scalar(f'train/{self.grad_name}').current()
        return float(clip_grad_norm_(params, math.inf)) if params else 0.0


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PrefixOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, whose ``custom_keys`` match the beginning of a parameter's name.

    mmengine's own keys match any part of a name: 'backbone' is also in 'audio_encoder.backbone.conv.weight'. Here a
    key is a module's or parameter's path from the root, in which ``*`` stands for any letters. Of several keys that
    match the longest counts. A key without ``decay_mult`` leaves the other rules, as ``norm_decay_mult``, in force.

    Args:
        optim_wrapper_cfg (dict): see :class:`mmengine.optim.DefaultOptimWrapperConstructor`.
        paramwise_cfg (dict, optional): see there. Defaults to None.

    Raises:
        ConfigError: a key that is not looked up.
    """

    paramwise_cfg: dict

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        self.keys = self.paramwise_cfg.get('custom_keys', {})
        path = 'optim_wrapper.paramwise_cfg'
        check_known(path, self.paramwise_cfg, PARAMWISE)
        for key, rule in self.keys.items():
            check_known(f'{path}.custom_keys.{key}', rule, {'lr_mult', 'decay_mult'})
        self.paramwise_cfg = dict(self.paramwise_cfg, custom_keys={})

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any) -> None:
        """Append a group for each trainable parameter of a module to ``params``."""
        super().add_params(params, module, prefix, **kwargs)
        if prefix:  # a child, on mmengine's way through the model
            return
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        if idle := [key for key in self.keys if not any(_fits(key, name) for name in names.values())]:
            text = f'optim_wrapper.paramwise_cfg.custom_keys: no parameter of the model is named {shorten(idle)}'
            print_log(text, 'current', logging.WARNING)
        for group in params:
            rule = self._rule(names[id(group['params'][0])])
            if 'lr_mult' in rule:
                group['lr'] = self.base_lr * rule['lr_mult']
            if 'decay_mult' in rule:
                group['weight_decay'] = self.base_wd * rule['decay_mult']

    def _rule(self, name: str) -> dict:
        """The settings of the longest key that matches a parameter's name."""
        fits = [key for key in self.keys if _fits(key, name)]
        return self.keys[max(fits, key=len)] if fits else {}


def _fits(key: str, name: str) -> bool:
    """Whether a key is the beginning of a parameter's name."""
    return fnmatchcase(f'{name}.', f'{key}.*')
