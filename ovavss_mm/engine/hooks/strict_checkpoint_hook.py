# SPDX-License-Identifier: Apache-2.0
"""Refuses checkpoints that do not fit the model."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import nn

from ...utils.safe_loading import CheckpointError
from ...utils.state_dict import Mismatch, compare_keys, matches
from ...utils.text import shorten


@HOOKS.register_module()
class StrictCheckpointHook(Hook):
    """Compares a checkpoint with the model before it is loaded, and raises if they do not fit.

    The runner loads checkpoints leniently and only warns of keys that it left out, so that a model may run half
    initialised. Weights that the model leaves out of its own ``state_dict`` (frozen ones, which come from a file of
    their own) may be missing from a checkpoint; if it has some of such a module's, it must have all of that module's.

    A checkpoint whose ``meta`` has ``ovavss_init`` true is meant to initialise a part of the model: what it lacks is
    logged and not an error.

    To start from weights of another model (another neck, decoder or number of queries), name what may differ.

    Args:
        allow_missing (Sequence[str]): regular expressions, matched from the start of a key; missing keys that match one
            are allowed. Defaults to ().
        allow_unexpected (Sequence[str]): for keys that the model does not have, which are not loaded. Defaults to ().
        allow_shape (Sequence[str]): for keys of another shape; the model keeps its initial values. Defaults to ().

    Raises:
        TypeError: a list of patterns is a string.
        ValueError: a pattern is no regular expression.
    """

    priority = 'VERY_HIGH'  # before hooks that change what was read, such as mmengine's EMAHook

    def __init__(
        self, allow_missing: Sequence[str] = (), allow_unexpected: Sequence[str] = (), allow_shape: Sequence[str] = ()
    ) -> None:
        self.allow_missing = _patterns('allow_missing', allow_missing)
        self.allow_unexpected = _patterns('allow_unexpected', allow_unexpected)
        self.allow_shape = _patterns('allow_shape', allow_shape)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check a checkpoint, or a bare state dict, and remove keys whose other shape is allowed.

        Raises:
            CheckpointError: keys are missing or unexpected, shapes differ, or there is no state dict in it.
        """
        state = _state_dict_of(checkpoint)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        stored, known = model.state_dict(), _all_tensors(model)
        required = set(stored)
        for group in _left_out_groups(model, known.keys() - required, known):
            required |= group if group & state.keys() else set()
        expected = {**known, **stored}
        bad = compare_keys(state, expected, [key for key in expected if key in required])
        bad = bad.without(self.allow_missing, self.allow_unexpected)
        dropped = [key for key in bad.shapes if matches(key, self.allow_shape)]
        if dropped:  # torch would not pass over them
            found = checkpoint.get('state_dict', checkpoint)
            for key in [key for key in found if key.removeprefix('module.') in dropped]:
                del found[key]
            runner.logger.info(f'{len(dropped)} keys of another shape keep their initial values: {shorten(dropped)}')
        bad = bad.without(shapes=self.allow_shape)
        if bad.missing and (checkpoint.get('meta') or {}).get('ovavss_init'):
            runner.logger.info(
                f'initial weights: {len(bad.missing)} keys of the model are not in the checkpoint and '
                f'keep their initial values: {shorten(bad.missing)}'
            )
            bad = bad.without(missing=[''])
        if bad:
            raise CheckpointError(_complaint(bad))


def _patterns(name: str, patterns: Sequence[str]) -> tuple[str, ...]:
    """Check a list of regular expressions."""
    if isinstance(patterns, str):
        raise TypeError(f'{name} must be a sequence of patterns, not the string {patterns!r}')
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as err:
            raise ValueError(f'{name} has a bad pattern: {err} in {pattern!r}') from err
    return tuple(patterns)


def _state_dict_of(checkpoint: Any) -> dict[str, Any]:
    """Give the state dict of a checkpoint, a leading 'module.' of its keys removed."""
    state = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not any(isinstance(v, torch.Tensor) for v in state.values()):
        keys = shorten(checkpoint) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise CheckpointError(
            f'the checkpoint holds no state dict of tensors; it has: {keys}. A checkpoint of '
            'another project must be converted first'
        )
    return {key.removeprefix('module.'): value for key, value in state.items()}


def _all_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Give all parameters and persistent buffers, those left out of ``state_dict`` included."""
    return {
        f'{prefix}.{name}' if prefix else name: value
        for prefix, module in model.named_modules(remove_duplicate=False)
        for name, value in {**module._parameters, **module._buffers}.items()
        if value is not None and name not in module._non_persistent_buffers_set
    }


def _left_out_groups(model: nn.Module, left_out: set[str], known: dict[str, torch.Tensor]) -> list[set[str]]:
    """Part the keys left out of ``state_dict`` by the outermost modules left out whole."""
    groups = []
    for name, _ in model.named_modules():
        keys = {key for key in known if key.startswith(f'{name}.')}
        if name and keys and keys <= left_out:
            groups.append(keys)
            left_out = left_out - keys
    return groups


def _complaint(bad: Mismatch) -> str:
    """Say what does not fit and what can be done."""
    kinds = (
        ('in the model but not in the checkpoint', bad.missing),
        ('in the checkpoint but not in the model', bad.unexpected),
        ('of another shape', [f'{key} {text}' for key, text in bad.shapes.items()]),
    )
    lines = [f'  {len(items)} {what}: {shorten(items)}' for what, items in kinds if items]
    advice = (
        'Use the config that the checkpoint was trained with (a checkpoint of another project must be converted '
        'first). What may differ can be named in StrictCheckpointHook(allow_missing=[...], allow_unexpected=[...], '
        'allow_shape=[...]).'
    )
    return '\n'.join(['the checkpoint does not fit the model:', *lines, advice])
