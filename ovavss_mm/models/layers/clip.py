# SPDX-License-Identifier: Apache-2.0
"""open_clip's models: built without weights, the files of their weights, and the maps of their ResNets."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from ...utils.known_weights import is_tag

CLIP_NUMBERS = ('input_resolution', 'context_length', 'vocab_size')  # in OpenAI's archives; they are no weights


def build_clip(clip_model: str | dict | nn.Module) -> nn.Module:
    """Build an open_clip model without pretrained weights.

    Args:
        clip_model (str | dict | nn.Module): open_clip's name of a model, its configuration, or a model as it is.

    Raises:
        ValueError: open_clip has no model of that name.
    """
    if isinstance(clip_model, nn.Module):
        return clip_model
    if isinstance(clip_model, str):
        if ':' not in clip_model and open_clip.get_model_config(clip_model) is None:
            raise ValueError(f'open_clip has no model {clip_model!r}; open_clip.list_models() names those it has')
        with _quiet_root_logger():
            model = open_clip.create_model(
                clip_model, load_weights=False, pretrained_text=False, device=torch.empty(0).device
            )  # where the rest of the model is built, such as 'meta'
    else:
        cfg = deepcopy(dict(clip_model))
        kind = open_clip.CustomTextCLIP if cfg.pop('custom_text', False) else open_clip.CLIP
        model = kind(**cfg)
    for module in model.modules():
        # else torch transposes what comes in, and under autocast copies the projection for each token
        if isinstance(module, (open_clip.transformer.Transformer, nn.MultiheadAttention)):
            module.batch_first = False
    return model


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Silence open_clip, which warns on the root logger that no weights are loaded."""
    root, handler = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(handler)  # without one, the first message would install its own for good
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def clip_weights_file(model_name: str | None, checkpoint: str) -> str:
    """Path of a model's weights; those that are named by a tag are downloaded, once.

    Args:
        model_name (str, optional): open_clip's name of the model; None: it has none.
        checkpoint (str): a path, or one of open_clip's tags for the model.

    Raises:
        ValueError: open_clip has no weights of that tag for this model.
    """
    if not is_tag(checkpoint):
        return checkpoint
    check_tag(model_name, checkpoint)
    return open_clip.download_pretrained(open_clip.get_pretrained_cfg(model_name, checkpoint))


def check_tag(model_name: str | None, checkpoint: str | None) -> None:
    """Raise ValueError for a tag, no path, of which open_clip has no weights for a model; see above."""
    if not checkpoint or not is_tag(checkpoint):
        return
    if checkpoint not in open_clip.list_pretrained_tags_by_model(model_name or ''):
        model = repr(model_name) if model_name else 'a model that is given as a configuration'
        raise ValueError(
            f'open_clip has no weights {checkpoint!r} for {model}: give a path, a tag of open_clip.list_pretrained(), '
            'or the name of a model as clip_model'
        )


def needs_hub(clip_model: object) -> bool:
    """Whether the text tower or the tokenizer of a model, named or given as a configuration, comes from a hub."""
    cfg = clip_model
    if isinstance(clip_model, str):
        if ':' in clip_model or 'siglip' in clip_model.lower():
            return True
        cfg = open_clip.get_model_config(clip_model)
    text_cfg = cfg.get('text_cfg') if isinstance(cfg, dict) else None
    return isinstance(text_cfg, dict) and any(text_cfg.get(key) for key in ('hf_model_name', 'hf_tokenizer_name'))


def resnet_maps(tower: ModifiedResNet, images: Tensor) -> tuple[Tensor, ...]:
    """Maps f4, f8, f16, f32 of an image tower before its attention pool.

    Args:
        tower (ModifiedResNet): of width w.
        images (Tensor): (M, 3, H, W) float32, normalised.

    Returns:
        tuple[Tensor, ...]: four maps (M, c, h, w) with 4 w, 8 w, 16 w and 32 w channels.
    """
    maps, x = [], tower.stem(images)
    for layer in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
        x = layer(x)
        maps.append(x)
    return tuple(maps)
