# SPDX-License-Identifier: Apache-2.0
"""Weights of Mask2Former trained on COCO instances, as a start for OV-AVSS."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .checkpoints import CheckpointError, tensors_of
from .keys import DROPPED, Conversion, convert
from .safe_pickle import UnsafePickleError, load_arrays

_DECODER = r'decode_head\.transformer_decoder\.'
_NOT_NEEDED = [
    (
        r'sem_seg_head\.predictor\.class_embed\.(weight|bias)',
        'COCO classes: the sound head is fresh',
    ),
    *DROPPED,
]

# Our names of what Mask2Former does not have: they keep their initial values.
FRESH = {
    r'neck\.fusion\.': 'early fusion of sound and sight',
    r'decode_head\.sound_head\.': 'sound head',
    r'decode_head\.audio_(proj|embed)\.': 'projection and positions of the audio',
    _DECODER + r'layers\.\d+\.audio_attn\.': 'attention of queries to audio',
    _DECODER + r'audio_prompt\.': 'attention to the audio before the layers',
    r'audio_encoder\.': 'frozen, from a file of its own',
    r'classifier\.': 'frozen, from a file of its own',
}


def read_coco(path: str) -> dict[str, Tensor]:
    """Read a checkpoint of detectron2, a pickle of ``{'model': {key: array}}``.

    Args:
        path: the file; nothing but arrays is read.

    Returns:
        Names of the published model to tensors.

    Raises:
        CheckpointError: no such file, a pickle of anything else, or a broken one.
    """
    try:
        content = load_arrays(path)
    except (OSError, UnsafePickleError) as error:
        raise CheckpointError(str(error)) from error
    model = content.get('model') if isinstance(content, Mapping) else None
    if not isinstance(model, Mapping):
        return tensors_of(content, path)  # which says what is wrong
    return tensors_of({'model': {_name(k): _tensor(v) for k, v in model.items()}}, path)


def convert_coco(state: Mapping[str, Tensor]) -> Conversion:
    """Weights of Mask2Former to ours.

    Args:
        state: what :func:`read_coco` gave.

    Returns:
        The conversion with its account of every key.
    """
    return convert(state, _NOT_NEEDED)


def fresh_keys(missing: list[str]) -> dict[str, list[str]]:
    """Sort the names that keep their initial values by what they are for.

    Args:
        missing: our names that the file does not have.

    Returns:
        Purpose to names.
    """
    groups = {}
    for key in missing:
        why = next(
            (why for pattern, why in FRESH.items() if re.match(pattern, key)), 'not in the file'
        )
        groups.setdefault(why, []).append(key)
    return groups


def _name(key: Any) -> Any:
    """First versions of Mask2Former had the pixel decoder directly in its head."""
    if isinstance(key, str):
        return re.sub(
            r'^sem_seg_head\.(?!pixel_decoder\.|predictor\.)', 'sem_seg_head.pixel_decoder.', key
        )
    return key


def _tensor(value: Any) -> Any:
    """An array as a tensor; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    # The array may be in another byte order, or a read-only view of the file's bytes.
    value = np.array(value, dtype=value.dtype.newbyteorder('='))
    try:
        return torch.from_numpy(value)
    except TypeError:  # a type that tensors do not have
        return value
