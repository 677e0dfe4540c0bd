# SPDX-License-Identifier: Apache-2.0
"""Modules with weights of their own file: never trained, not stored in checkpoints."""

from pathlib import Path

import torch
from mmengine.model import BaseModule
from safetensors.torch import load_file
from torch import Tensor

from ...utils.weights import package_file
from ..released.weights import how_to_get
from .script_archives import is_script_archive, read_script_archive


def read_weights(path: str) -> dict[str, Tensor]:
    """Read a state dict from a file without unpickling anything but tensors and plain containers.

    Reads safetensors files, plain or ``{'state_dict': ...}`` PyTorch checkpoints (``weights_only``) and
    the TorchScript archives in which OpenAI distributes CLIP, whose code is not run.

    Args:
        path: the file; ``ovavss_mm://PATH`` is one that ships in the package.

    Returns:
        Names to tensors on the CPU, a leading ``module.`` removed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or holds no state dict.
    """
    path = package_file(path)
    if not Path(path).is_file():
        raise FileNotFoundError(how_to_get(path))
    try:
        state = _read_file(str(path))
    except Exception as error:  # a broken file fails in as many ways as there are readers
        raise ValueError(
            f'{path} is no readable checkpoint ({type(error).__name__}): is it complete, and a safetensors file, '
            'a PyTorch checkpoint of nothing but tensors or a TorchScript archive?'
        ) from error
    if isinstance(state, dict):
        state = state.get('state_dict', state)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f'{path} holds no state dict of tensors')
    return {key.removeprefix('module.'): value for key, value in state.items()}


def _read_file(path: str) -> object:
    """What a safetensors file, a PyTorch checkpoint or a TorchScript archive holds."""
    if path.endswith('.safetensors'):
        return load_file(path)
    if is_script_archive(path):
        return read_script_archive(path)
    return torch.load(path, map_location='cpu', weights_only=True)


class FrozenModule(BaseModule):
    """A module whose weights come from a file of their own and are never trained.

    With ``init_cfg=dict(type='Pretrained', checkpoint=PATH)`` the weights are read from PATH when
    :meth:`init_weights` is called, or when a checkpoint without them is loaded, and :meth:`state_dict`
    leaves them out: checkpoints stay small. A checkpoint that has them is loaded as it is. Without
    ``init_cfg`` the module stores its weights like any other. Always in evaluation mode.

    Args:
        init_cfg: None, or ``dict(type='Pretrained', checkpoint=PATH)``.

    Raises:
        ValueError: ``init_cfg`` is of another type.
    """

    def __init__(self, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=None)
        if init_cfg is not None and (
            init_cfg.get('type') != 'Pretrained' or not init_cfg.get('checkpoint')
        ):
            raise ValueError(
                f"{type(self).__name__} takes init_cfg=dict(type='Pretrained', checkpoint=PATH) or None, got {init_cfg}"
            )
        self.checkpoint: str | None = init_cfg and init_cfg['checkpoint']
        self._has_weights = False
        self._register_state_dict_hook(_leave_out_own_weights)
        self.register_load_state_dict_pre_hook(_fill_in_own_weights)

    def freeze(self) -> None:
        """Take all parameters out of training; subclasses call this at the end of their constructor."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> 'FrozenModule':
        """Stay in evaluation mode whatever ``mode`` is."""
        return super().train(False)

    def init_weights(self) -> None:
        """Read the weights of ``init_cfg`` (once); without ``init_cfg`` nothing happens."""
        if self.checkpoint is None or self._has_weights:
            return
        path = self.weights_file()
        state = self.convert_state_dict(read_weights(path))
        own = _own_state(self)
        check_keys(own, state, path)
        with torch.no_grad():
            for key, value in own.items():
                value.copy_(state.get(key, value))
        self._has_weights = True
        self._is_init = True

    def weights_file(self) -> str:
        """Path of the file that ``init_cfg`` names; subclasses may know other ways to name one."""
        return self.checkpoint

    def convert_state_dict(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Names of the file to names of this module; subclasses override this."""
        return state


def _own_state(module: FrozenModule) -> dict[str, Tensor]:
    """The module's whole state; children's, as the module's own hook leaves everything out."""
    return {
        f'{name}.{key}': value
        for name, child in module.named_children()
        for key, value in child.state_dict().items()
    }


def check_keys(own: dict[str, Tensor], state: dict[str, Tensor], path: str) -> None:
    """Raise ValueError if ``state`` of file ``path`` does not fit ``own`` in names and shapes."""
    # a counter of training steps, which archives may leave out
    bad = [f'missing {k}' for k in own if k not in state and not k.endswith('num_batches_tracked')]
    bad += [f'unexpected {key}' for key in state if key not in own]
    bad += [
        f'{key}: {tuple(state[key].shape)} in the file, {tuple(value.shape)} in the model'
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    if bad:
        raise ValueError(f'{path} does not fit: {"; ".join(bad[:5])} ({len(bad)} in all)')


def _leave_out_own_weights(module: FrozenModule, state: dict, prefix: str, _metadata: dict) -> None:
    """State dict hook: drop what the module's own file holds."""
    if module.checkpoint is not None:
        for key in [key for key in state if key.startswith(prefix)]:
            del state[key]


def _fill_in_own_weights(module: FrozenModule, state: dict, prefix: str, *_: object) -> None:
    """Load hook: a checkpoint without this module's weights gets them from the module's own file."""
    if any(key.startswith(prefix) for key in state):
        module._has_weights = True
        return
    if module.checkpoint is not None:
        module.init_weights()
        state.update({prefix + name: value for name, value in _own_state(module).items()})
