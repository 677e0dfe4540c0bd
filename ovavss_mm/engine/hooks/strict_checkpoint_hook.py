# SPDX-License-Identifier: Apache-2.0
"""Refuses checkpoints that do not fit the model."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import nn

_SHOWN = 5


@HOOKS.register_module()
class StrictCheckpointHook(Hook):
    """Compares a checkpoint with the model before it is loaded, and raises if they do not fit.

    The runner loads checkpoints leniently and only warns of keys that it left out, so that a model
    may run half initialised. Weights that the model leaves out of its own ``state_dict`` (frozen
    ones, which come from a file of their own) may be missing from a checkpoint; if it has some of
    such a module's, it must have all of that module's.

    A checkpoint whose ``meta`` has ``ovavss_init`` true is meant to initialise a part of the model:
    what it lacks is logged and not an error.

    Args:
        allow_missing: regular expressions, matched from the start of a key; missing keys that match
            one are allowed.
    """

    # Before hooks that change what was read, such as mmengine's EMAHook.
    priority = 'VERY_HIGH'

    def __init__(self, allow_missing: Sequence[str] = ()) -> None:
        if isinstance(allow_missing, str):
            raise TypeError(
                f'allow_missing must be a sequence of patterns, not the string {allow_missing!r}'
            )
        try:
            self.allow_missing = tuple(re.compile(pattern) for pattern in allow_missing)
        except re.error as err:
            raise ValueError(f'allow_missing has a bad pattern: {err} in {err.pattern!r}') from err

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check a checkpoint that was read and is about to be loaded.

        Args:
            runner: whose model it is for.
            checkpoint: a dict with ``state_dict``, or the state dict itself.

        Raises:
            TypeError: if there is no state dict in it.
            RuntimeError: if keys are missing or unexpected or shapes differ.
        """
        state = _state_dict_of(checkpoint)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        stored, known = model.state_dict(), _all_tensors(model)
        required = set(stored)
        for group in _left_out_groups(model, set(known) - required):
            required |= group if group & set(state) else set()
        expected = {**known, **stored}
        missing = [
            key
            for key in expected
            if key in required and key not in state and not self._may_miss(key)
        ]
        unexpected = [key for key in state if key not in expected]
        shapes = [
            f'{key} is {_shape(value)}, the model has {_shape(expected[key])}'
            for key, value in state.items()
            if key in expected and _shape(value) != _shape(expected[key])
        ]
        if missing and (checkpoint.get('meta') or {}).get('ovavss_init'):
            runner.logger.info(
                f'initial weights: {len(missing)} keys of the model are not in the checkpoint and '
                f'keep their initial values: {_some(missing)}'
            )
            missing = []
        if missing or unexpected or shapes:
            raise RuntimeError(_complaint(missing, unexpected, shapes))

    def _may_miss(self, key: str) -> bool:
        """Whether a missing key is allowed."""
        return any(pattern.match(key) for pattern in self.allow_missing)


def _state_dict_of(checkpoint: Any) -> dict[str, Any]:
    """Give the state dict of a checkpoint, a leading 'module.' of its keys removed."""
    state = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not any(isinstance(v, torch.Tensor) for v in state.values()):
        keys = (
            _some(map(str, checkpoint))
            if isinstance(checkpoint, dict)
            else type(checkpoint).__name__
        )
        raise TypeError(
            f'the checkpoint holds no state dict of tensors; it has: {keys}. A checkpoint of '
            'another project must be converted first'
        )
    return {key.removeprefix('module.'): value for key, value in state.items()}


def _all_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Give all parameters and persistent buffers, those left out of ``state_dict`` included."""
    out = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        own = {**module._parameters, **module._buffers}
        for name, value in own.items():
            if value is not None and name not in module._non_persistent_buffers_set:
                out[f'{prefix}.{name}' if prefix else name] = value
    return out


def _left_out_groups(model: nn.Module, left_out: set[str]) -> list[set[str]]:
    """Part the keys left out of ``state_dict`` by the outermost modules left out whole."""
    groups, rest, known = [], set(left_out), set(_all_tensors(model))
    for name, _ in model.named_modules():
        keys = {key for key in rest if key.startswith(f'{name}.')}
        if name and keys and keys == {key for key in known if key.startswith(f'{name}.')}:
            groups.append(keys)
            rest -= keys
    return groups


def _shape(value: Any) -> Any:
    """Shape of a tensor; None for anything else, which is not compared."""
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None


def _some(items: Iterable[str]) -> str:
    """Name the first few of a list."""
    items = list(items)
    return ', '.join(items[:_SHOWN]) + (
        f' and {len(items) - _SHOWN} more' if items[_SHOWN:] else ''
    )


def _complaint(missing: list[str], unexpected: list[str], shapes: list[str]) -> str:
    """Say what does not fit and what can be done."""
    kinds = (
        ('in the model but not in the checkpoint', missing),
        ('in the checkpoint but not in the model', unexpected),
        ('of another shape', shapes),
    )
    lines = [f'  {len(items)} {what}: {_some(items)}' for what, items in kinds if items]
    return '\n'.join(
        [
            'the checkpoint does not fit the model:',
            *lines,
            'Use the config that the checkpoint was trained with (a checkpoint of another project '
            'must be converted first). Keys that may be missing can be named in '
            'StrictCheckpointHook(allow_missing=...).',
        ]
    )
