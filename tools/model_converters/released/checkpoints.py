# SPDX-License-Identifier: Apache-2.0
"""Fitting published weights to a model, and writing the result."""

import os.path as osp
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ovavss_mm.utils.files import atomic_path
from ovavss_mm.utils.safe_loading import CheckpointError
from ovavss_mm.utils.state_dict import compare_keys
from ovavss_mm.utils.text import one_line, shorten

from .keys import Conversion

BACKBONES = {'r50': 'backbone.stem.conv1.weight', 'swin-b': 'backbone.patch_embed.proj.weight'}
CLIP = 'clip_adapter.clip_model.'
# OpenAI distributes CLIP in half precision; everything else was trained and saved in single.
HALF_PRECISION_ALLOWED = ('clip_adapter.', 'backbone.clip_model.')
_HEAD_WIDTH = 64  # of all CLIP transformers of OpenAI; shapes do not tell


def find_backbone(keys: Iterable[str]) -> str:
    """Tell the backbone, ``'r50'`` or ``'swin-b'``, from published names."""
    keys = set(keys)
    found = [name for name, key in BACKBONES.items() if key in keys]
    if len(found) != 1:
        what = ' and '.join(BACKBONES.values())
        raise CheckpointError(f'no backbone known: of {what} exactly one must be there, found {len(found)}')
    return found[0]


def find_config(state: Mapping[str, Tensor]) -> str:
    """Path below ``configs/`` of the model that a published checkpoint is of: OV-AVSS, or without sound OpenVIS."""
    backbone = find_backbone(state)
    if any(key.startswith('audio_encoder.') for key in state):
        return f'ovavss/ovavss_{backbone}_release.py'
    return 'openvis/openvis_r50_clip-vit-b32_1xb1-82k_avsbench-ov.py'


def decoder_layers(state: Mapping[str, Tensor]) -> int:
    """Number of decoder layers of a published checkpoint."""
    prefix = 'sem_seg_head.predictor.transformer_ffn_layers.'
    return len({key.removeprefix(prefix).split('.')[0] for key in state if key.startswith(prefix)})


def check_values(state: Mapping[str, Tensor], skip: Iterable[str] = ()) -> dict[str, Tensor]:
    """Check that weights are finite and in single precision; CLIP's in half precision are converted.

    Args:
        state (Mapping[str, Tensor]): published names to tensors.
        skip (Iterable[str]): names that will not be used. Defaults to ().

    Returns:
        dict[str, Tensor]: the same.
    """
    skip, out = set(skip), dict(state)
    for key in [key for key in out if key not in skip]:
        if key.startswith(HALF_PRECISION_ALLOWED) and out[key].dtype == torch.float16:
            out[key] = out[key].float()
        value, name = out[key], f'{key} {tuple(out[key].shape)}'
        if value.dtype != torch.float32 and not key.endswith('num_batches_tracked'):
            raise CheckpointError(f'{name} is {value.dtype}, it must be torch.float32')
        if not torch.isfinite(value).all():
            raise CheckpointError(f'{name} has values that are not finite')
    return out


def fit(
    conversion: Conversion, model: nn.Module, fresh: Sequence[str] = (), what: str = 'the config'
) -> dict[str, Tensor]:
    """Fit converted weights to a model and complete them.

    Index buffers and counters, which published files lack, are added as the model computes them.

    Args:
        conversion (Conversion): the converted weights.
        model (nn.Module): with all its weights in its state dict; their values do not matter.
        fresh (Sequence[str]): patterns of our names that the file need not have. Defaults to ().
        what (str): the model, for messages. Defaults to ``'the config'``.

    Returns:
        dict[str, Tensor]: our names to tensors.

    Raises:
        CheckpointError: a name without a place, one too many, one missing, or another shape.
    """
    if conversion.unplaced:
        bad = [f'{key}: {why}' for key, why in conversion.unplaced.items()]
        raise CheckpointError(f'{len(bad)} keys have no place: {shorten(bad, sep="; ")}')
    expected, state = model.state_dict(), dict(conversion.state)
    for key, value in expected.items():
        if key not in state and not value.is_floating_point() and not value.is_meta:
            state[key] = value.clone()
    bad = compare_keys(state, expected).without(missing=fresh)
    if bad:
        published = {ours: key for key, ours in conversion.mapped.items()}
        named = [*bad.unexpected, *bad.shapes]
        theirs = shorten([f'{key} is {published.get(key, key)}' for key in named])
        raise CheckpointError(f'does not fit {what}: {bad}' + (f'; in the file, {theirs}' if named else ''))
    return state


def write_checkpoint(path: str, state: Mapping[str, Tensor], meta: dict) -> None:
    """Write a checkpoint that mmengine's runner loads, atomically, with plain values about it."""
    try:
        with atomic_path(path) as beside:
            torch.save(dict(state_dict=dict(state), meta=meta), beside)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f'cannot write {path}: {one_line(error)}') from error


def check_output(source: str, target: str) -> None:
    """Check, before the work, that a result can be written."""
    folder = osp.dirname(osp.abspath(target))
    if not osp.isdir(folder):
        raise CheckpointError(f'there is no folder {folder} to write {osp.basename(target)} to')
    if osp.isdir(target):
        raise CheckpointError(f'{target} is a folder')
    if osp.exists(target) and osp.exists(source) and osp.samefile(source, target):
        raise CheckpointError(f'{target} is the file to be converted: choose another name')


def clip_config(state: Mapping[str, Tensor], prefix: str = CLIP) -> dict:
    """Configuration of the OpenAI CLIP, with a vision transformer or a ResNet, that weights belong to.

    Args:
        state (Mapping[str, Tensor]): names to tensors, of which only shapes are looked at.
        prefix (str): of CLIP's names. Defaults to that of published checkpoints.

    Returns:
        dict: the ``clip`` of :class:`~ovavss_mm.models.CLIPSquareCropClassifier`.

    Raises:
        CheckpointError: a name is missing.
    """
    state = {k.removeprefix(prefix): v.shape for k, v in state.items() if k.startswith(prefix)}
    try:
        is_resnet = 'visual.layer1.0.conv1.weight' in state
        patches = state['visual.conv1.weight']  # (width, 3, side, side)
        positions, _ = state[f'visual.{"attnpool." if is_resnet else ""}positional_embedding']
        context, text_width = state['positional_embedding']
        vocabulary, _ = state['token_embedding.weight']
        _, embed_dim = state['text_projection']
    except KeyError as error:
        raise CheckpointError(f'no CLIP: {error.args[0]} is missing') from error

    def layers(tower: str) -> int:
        return len({key.removeprefix(tower).split('.')[0] for key in state if key.startswith(tower)})

    side = round((positions - 1) ** 0.5)
    if is_resnet:
        stages, width = [layers(f'visual.layer{i}.') for i in (1, 2, 3, 4)], state['visual.layer1.0.conv1.weight'][0]
        vision = dict(image_size=32 * side, layers=stages, width=width)
    else:
        depth = layers('visual.transformer.resblocks.')
        vision = dict(image_size=patches[-1] * side, patch_size=patches[-1], width=patches[0], layers=depth)
    return dict(
        embed_dim=embed_dim,
        vision_cfg=vision,
        text_cfg=dict(
            context_length=context,
            vocab_size=vocabulary,
            width=text_width,
            heads=max(1, text_width // _HEAD_WIDTH),
            layers=layers('transformer.resblocks.'),
        ),
        quick_gelu=True,
    )
