# SPDX-License-Identifier: Apache-2.0
"""Modules with weights of their own file: never trained, not stored in checkpoints."""

from collections.abc import Callable
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from ...utils.known_weights import PACKAGE_SCHEME
from ...utils.safe_loading import read_state_dict
from ...utils.state_dict import compare_keys


class FrozenModule(BaseModule):
    """A module whose children have weights from a file of their own that are never trained.

    With ``init_cfg=dict(type='Pretrained', checkpoint=PATH)`` the children's weights are read from
    PATH when :meth:`init_weights` is called, or when a checkpoint without them is loaded, and
    :meth:`state_dict` leaves them out: checkpoints stay small. A checkpoint that has them is loaded
    as it is. Without ``init_cfg`` the module stores its weights like any other. Always in
    evaluation mode.

    A subclass builds the children that the file is for, then calls :meth:`freeze`. Its own
    parameters and buffers, and children that it adds later (an adapter, a learned prompt), are
    trained and stored as in any other module.

    Args:
        init_cfg (dict, optional): ``dict(type='Pretrained', checkpoint=PATH)``. Defaults to None.

    Raises:
        ValueError: ``init_cfg`` is of another type, or has other keys.
    """

    def __init__(self, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=None)
        self.checkpoint = checked_checkpoint(init_cfg, type(self).__name__)
        self._frozen: tuple[str, ...] = ()  # names of the children that the file is for
        self._has_weights = False
        self._register_state_dict_hook(_leave_out_frozen)
        self.register_load_state_dict_pre_hook(_fill_in_frozen)

    def freeze(self) -> None:
        """Freeze the children there are; subclasses call this at the end of their constructor."""
        self._frozen = tuple(name for name, _ in self.named_children())
        for name in self._frozen:
            self.get_submodule(name).requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> 'FrozenModule':
        """Stay in evaluation mode whatever ``mode`` is.

        Raises:
            ValueError: a frozen parameter is to be trained, and checkpoints would not store it.
        """
        if mode and self.checkpoint is not None:
            _check_frozen(self)
        return super().train(False)

    def init_weights(self) -> None:
        """Read the weights of ``init_cfg`` (once); without ``init_cfg`` nothing happens.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it cannot be read, or does not fit.
        """
        if self.checkpoint is None or self._has_weights:
            return
        state, own = self.read_weights(), _frozen_state(self)
        # archives may leave out counters of training steps
        bad = compare_keys(state, own).without(missing=['.*num_batches_tracked$'])
        if bad:
            raise ValueError(f'{self.checkpoint} does not fit {type(self).__name__}: {bad}')
        for key, value in own.items():
            if key in state:  # in place of what was there: no weight is in memory twice
                value.data = state.pop(key).to(value)
        self._has_weights = True
        self._is_init = True

    def read_weights(self) -> dict[str, Tensor]:
        """Weights of ``init_cfg`` by the names of this module; subclasses may have another reader."""
        return self.convert_state_dict(read_state_dict(self.weights_file()))

    def weights_file(self) -> str:
        """Path of the file that ``init_cfg`` names; subclasses may know other ways to name one."""
        return self.checkpoint

    def convert_state_dict(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Names of the file to names of this module; subclasses override this."""
        return state

    @classmethod
    def portable_cfg(cls, cfg: dict[str, Any], keep: Callable[..., str]) -> dict[str, Any]:
        """Config of the same part whose weights come with those of the model, see :func:`whole_state`.

        Subclasses make explicit here what they take from ``init_cfg``, and hand on the files that they read.

        Args:
            cfg (dict): config of a part of this class.
            keep (Callable): ``keep(source, name='')`` keeps a file, or what ``source(path)`` writes as a folder, with
                the model, and gives what stands for its path in the config.
        """
        return cfg if of_package(cfg.get('init_cfg')) else dict(cfg, init_cfg=None)


def checked_checkpoint(init_cfg: dict | None, name: str) -> str | None:
    """The place of the weights in ``init_cfg`` of a part; ValueError if there is anything else in it."""
    whole = init_cfg and set(init_cfg) == {'type', 'checkpoint'} and init_cfg['checkpoint']
    if init_cfg is not None and not (whole and init_cfg['type'] == 'Pretrained'):
        raise ValueError(f"{name} takes init_cfg=dict(type='Pretrained', checkpoint=PATH) or None, got {init_cfg}")
    return init_cfg['checkpoint'] if init_cfg else None


def of_package(init_cfg: dict | None) -> bool:
    """Whether weights ship with this package."""
    return bool(init_cfg) and str(init_cfg.get('checkpoint')).startswith(PACKAGE_SCHEME)


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """State of a model with all its weights, also those that checkpoints leave out, but for what ships here."""
    read_frozen(model)
    state = dict(model.state_dict())
    for name, part in model.named_modules():
        if isinstance(part, FrozenModule) and not of_package(dict(checkpoint=part.checkpoint)):
            state.update({f'{name}.{key}'.lstrip('.'): value.detach() for key, value in _frozen_state(part).items()})
    return state


def read_frozen(model: nn.Module) -> None:
    """Read the weights of all frozen parts of a model, which no checkpoint need have; see :class:`FrozenModule`."""
    for part in model.modules():
        if isinstance(part, FrozenModule):
            part.init_weights()


def _frozen_state(module: FrozenModule) -> dict[str, Tensor]:
    """State of the frozen children; asked of these, as the module's own hook leaves them out."""
    return {
        f'{name}.{key}': value
        for name in module._frozen
        for key, value in module.get_submodule(name).state_dict(keep_vars=True).items()
    }


def _check_frozen(module: FrozenModule) -> None:
    """Raise ValueError if a parameter that checkpoints leave out is trainable."""
    for name in module._frozen:
        for key, value in module.get_submodule(name).named_parameters(name):
            if value.requires_grad:
                raise ValueError(
                    f'{type(module).__name__}.{key} is trainable, but its weights come from {module.checkpoint} '
                    'and no checkpoint would store it. To train it, set init_cfg=None and load the weights with '
                    'load_from; to add something trainable, add it after freeze()'
                )


def _leave_out_frozen(module: FrozenModule, state: dict, prefix: str, _metadata: dict) -> None:
    """State dict hook: drop what the module's own file holds."""
    if module.checkpoint is not None:
        _check_frozen(module)
        for key in _frozen_state(module):
            state.pop(prefix + key, None)


def _fill_in_frozen(module: FrozenModule, state: dict, prefix: str, *_: object) -> None:
    """Load hook: a checkpoint without the frozen weights gets them from the module's own file."""
    own = _frozen_state(module)
    if any(prefix + key in state for key in own):
        module._has_weights = True
    elif module.checkpoint is not None:
        module.init_weights()
        state.update({prefix + key: value for key, value in own.items()})
