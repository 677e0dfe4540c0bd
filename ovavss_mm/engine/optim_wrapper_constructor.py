# SPDX-License-Identifier: Apache-2.0
"""Learning rate and weight decay of parameters by their full names."""

from fnmatch import fnmatchcase

from mmengine.optim import DefaultOptimWrapperConstructor
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PrefixOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, whose ``custom_keys`` match the beginning of a parameter's name.

    mmengine's own keys match any part of a name: 'backbone' is also in
    'audio_encoder.backbone.conv.weight'. Here a key is a module's or parameter's path from the root,
    in which ``*`` stands for any letters. Of several keys that match the longest counts. A key
    without ``decay_mult`` leaves the other rules, such as ``norm_decay_mult``, in force.

    Args:
        optim_wrapper_cfg (dict): see :class:`mmengine.optim.DefaultOptimWrapperConstructor`.
        paramwise_cfg (dict, optional): see there. Defaults to None.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        self.keys = self.paramwise_cfg.get('custom_keys', {})
        self.paramwise_cfg = dict(self.paramwise_cfg, custom_keys={})

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs) -> None:
        """Append a group for each trainable parameter of a module to ``params``."""
        super().add_params(params, module, prefix, **kwargs)
        if prefix:  # a child, on mmengine's way through the model
            return
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        for group in params:
            rule = self._rule(names[id(group['params'][0])])
            if 'lr_mult' in rule:
                group['lr'] = self.base_lr * rule['lr_mult']
            if 'decay_mult' in rule:
                group['weight_decay'] = self.base_wd * rule['decay_mult']

    def _rule(self, name: str) -> dict:
        """The settings of the longest key that matches a parameter's name."""
        fits = [key for key in self.keys if fnmatchcase(f'{name}.', f'{key}.*')]
        return self.keys[max(fits, key=len)] if fits else {}
