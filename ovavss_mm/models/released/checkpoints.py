# SPDX-License-Identifier: Apache-2.0
"""Reading published checkpoints, fitting them to a model, writing ours."""

import os
import os.path as osp
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .keys import Conversion

BACKBONES = {
    'r50': 'backbone.stem.conv1.weight',
    'swin-b': 'backbone.patch_embed.proj.weight',
}
# OpenAI distributes CLIP in half precision; everything else was trained and saved in single.
HALF_PRECISION_ALLOWED = 'clip_adapter.'
_SHOWN = 3


class CheckpointError(ValueError):
    """A file that cannot be converted; the message is one line for the user."""


def read_published(path: str) -> dict[str, Tensor]:
    """Read the weights of a published checkpoint, ``{'model': {key: tensor}}``.

    Args:
        path: the file; no code in it is run.

    Returns:
        Published names to tensors on the CPU.

    Raises:
        CheckpointError: there is no such file, it cannot be read, or holds something else.
    """
    if not osp.isfile(path):
        raise CheckpointError(f'there is no file {path}')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a broken file fails in as many ways as there are formats
        raise CheckpointError(
            f'{path} is no readable PyTorch checkpoint, or not complete '
            f'({type(error).__name__}: {_one_line(error)})'
        ) from error
    return tensors_of(content, path)


def tensors_of(content: Any, path: str) -> dict[str, Tensor]:
    """Give the tensors under ``'model'`` of what a file holds.

    Args:
        content: of the file.
        path: for messages.

    Returns:
        Names to tensors.

    Raises:
        CheckpointError: there is no such dict, it is empty, or has something else in it.
    """
    model = content.get('model') if isinstance(content, Mapping) else None
    if not isinstance(model, Mapping) or not model:
        found = (
            f'the keys {_some(map(str, content))}'
            if isinstance(content, Mapping)
            else f'a {type(content).__name__}'
        )
        raise CheckpointError(f"{path} has no weights under 'model', it holds {found}")
    for key, value in model.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f'{path}: {key!r} is a {type(value).__name__}, not a tensor')
    return dict(model)


def find_backbone(keys: Iterable[str]) -> str:
    """Tell the backbone from published names.

    Args:
        keys: of a checkpoint.

    Returns:
        'r50' or 'swin-b'.

    Raises:
        CheckpointError: neither or both.
    """
    keys = set(keys)
    found = [name for name, key in BACKBONES.items() if key in keys]
    if len(found) != 1:
        what = ' and '.join(BACKBONES.values())
        raise CheckpointError(
            f'no backbone known: of {what} exactly one must be there, found {len(found)}'
        )
    return found[0]


def check_values(state: Mapping[str, Tensor], skip: Iterable[str] = ()) -> dict[str, Tensor]:
    """Check that weights are finite and in single precision.

    Args:
        state: published names to tensors.
        skip: names that will not be used.

    Returns:
        The same; weights of CLIP in half precision are converted.

    Raises:
        CheckpointError: another precision, or infinite or undefined values.
    """
    skip, out = set(skip), {}
    for key, value in state.items():
        if key not in skip:
            if key.startswith(HALF_PRECISION_ALLOWED) and value.dtype == torch.float16:
                value = value.float()
            if value.dtype != torch.float32 and not key.endswith('num_batches_tracked'):
                raise CheckpointError(
                    f'{key} {tuple(value.shape)} is {value.dtype}, it must be torch.float32'
                )
            if not torch.isfinite(value).all():
                raise CheckpointError(f'{key} {tuple(value.shape)} has values that are not finite')
        out[key] = value
    return out


def fit(
    conversion: Conversion, model: nn.Module, fresh: Sequence[str] = (), what: str = 'the config'
) -> dict[str, Tensor]:
    """Fit converted weights to a model and complete them.

    Index buffers and counters, which published files lack, are added as the model computes them.

    Args:
        conversion: the converted weights.
        model: with all its weights in its state dict; their values do not matter.
        fresh: patterns, matched from the start, of our names that the file need not have.
        what: the model, for messages.

    Returns:
        Our names to tensors.

    Raises:
        CheckpointError: a name without a place, one too many, one missing, or another shape.
    """
    if conversion.unplaced:
        bad = [f'{key}: {why}' for key, why in conversion.unplaced.items()]
        raise CheckpointError(f'{len(bad)} keys have no place: {_some(bad)}')
    published = {ours: key for key, ours in conversion.mapped.items()}
    wanted, state = model.state_dict(), dict(conversion.state)
    for key, value in wanted.items():
        if key not in state and not value.is_floating_point() and not value.is_meta:
            state[key] = value.clone()
    bad = [
        f'{published[key]} {tuple(value.shape)} has no place as {key}'
        for key, value in state.items()
        if key not in wanted
    ]
    bad += [
        f'{published.get(key, key)} {tuple(state[key].shape)}, wanted as {key} {tuple(value.shape)}'
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    bad += [
        f'{key} {tuple(value.shape)} is missing'
        for key, value in wanted.items()
        if key not in state and not any(re.match(pattern, key) for pattern in fresh)
    ]
    if bad:
        raise CheckpointError(f'does not fit {what} ({len(bad)} keys): {_some(bad)}')
    return state


def write_checkpoint(path: str, state: Mapping[str, Tensor], meta: dict) -> None:
    """Write a checkpoint that mmengine's runner loads; the file appears when it is whole.

    Args:
        path: of the file.
        state: our names to tensors.
        meta: plain values about it.

    Raises:
        CheckpointError: the file cannot be written.
    """
    beside = f'{path}.{os.getpid()}.tmp'
    try:
        torch.save(dict(state_dict=dict(state), meta=meta), beside)
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f'cannot write {path}: {_one_line(error)}') from error
    finally:
        if osp.exists(beside):
            os.remove(beside)


def check_output(source: str, target: str) -> None:
    """Check, before the work, that a result can be written.

    Args:
        source: the file that is read.
        target: the file to write.

    Raises:
        CheckpointError: no such folder, ``target`` is a folder, or it is the source itself.
    """
    folder = osp.dirname(osp.abspath(target))
    if not osp.isdir(folder):
        raise CheckpointError(f'there is no folder {folder} to write {osp.basename(target)} to')
    if osp.isdir(target):
        raise CheckpointError(f'{target} is a folder')
    if osp.exists(target) and osp.exists(source) and osp.samefile(source, target):
        raise CheckpointError(f'{target} is the file to be converted: choose another name')


def _some(items: Iterable[str]) -> str:
    """Name the first few of a list."""
    items = list(items)
    more = f'; and {len(items) - _SHOWN} more' if items[_SHOWN:] else ''
    return '; '.join(items[:_SHOWN]) + more


def _one_line(error: Exception) -> str:
    """Start of an error's message, in one line."""
    return ' '.join(str(error).split())[:160]
