# SPDX-License-Identifier: Apache-2.0
"""Queries that sound and have masks, whatever the weights: a known number of crops for CLIP."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional as F

from .timer import Hook


def smooth_masks(queries: int, sounding: int, frames: int, height: int, width: int) -> Tensor:
    """Mask logits (Q, T, h, w): discs that move for the first queries, nothing for the others.

    Every disc is in every frame and has at least a pixel above 0.
    """
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing='ij')
    index = torch.arange(sounding)[:, None]
    time = torch.arange(frames)[None] / max(1, frames - 1)
    # spread over the frame by steps that have no period
    centre_x, centre_y = (0.2 + 0.6 * (index * step + 0.3 * time) % 0.8 for step in (0.618, 0.382))
    radius = 0.08 + 0.17 * (index * 0.271 % 1)
    distance = (x - centre_x[..., None, None]) ** 2 + (y - centre_y[..., None, None]) ** 2
    logits = 12 * torch.exp(-distance / (2 * radius[..., None, None] ** 2)) - 6
    # a disc smaller than the grid still has the pixel nearest to its centre
    nearest = distance.flatten(2).argmin(-1, keepdim=True)
    logits = logits.flatten(2).scatter(2, nearest, 6.0).unflatten(2, (height, width))
    silent = torch.full((queries - sounding, frames, height, width), -6.0)
    return torch.cat([logits, silent])


def force_queries(predict: Callable, sounding: int | str, made: dict[tuple, InstanceData] | None = None) -> Callable:
    """The head's ``predict``, with results of which a given number of queries sound.

    Args:
        predict: the method; it does all of its work.
        sounding: how many queries sound, or 'all'.
        made: where what was made is kept.

    Returns:
        The replacement. What it puts in is made once for each shape: it takes no time.
    """
    made = {} if made is None else made

    @wraps(predict)
    def forced(*args: Any, **kwargs: Any) -> list[InstanceData]:
        results = predict(*args, **kwargs)
        return [_forced(result.masks, sounding, made) for result in results]

    return forced


def _forced(masks: Tensor, sounding: int | str, made: dict[tuple, InstanceData]) -> InstanceData:
    """Queries in place of those that have these masks."""
    key = tuple(masks.shape)
    if key not in made:
        queries, *sizes = key
        count = queries if sounding == 'all' else min(sounding, queries)
        scores = (torch.arange(queries) < count).to(masks)
        drawn = smooth_masks(queries, count, *sizes).to(masks)
        made[key] = InstanceData(sound_scores=scores, masks=drawn)
    return made[key].clone()


def drawn_embeddings(text_embeddings: Callable, size: int) -> Callable:
    """The classifier's ``text_embeddings``, with directions that are drawn, once for each number of names.

    Args:
        text_embeddings: the method; not called.
        size: D.
    """
    drawn: dict[int, Tensor] = {}

    @wraps(text_embeddings)
    def embeddings(names: tuple[str, ...]) -> Tensor:
        if len(names) not in drawn:
            generator = torch.Generator().manual_seed(0)
            rows = torch.randn(len(names), size, generator=generator)
            device = text_embeddings.__self__.mean.device
            drawn[len(names)] = F.normalize(rows, dim=-1).to(device)
        return drawn[len(names)]

    return embeddings


def forced_hooks(model: Any, sounding: int | str, text_size: int) -> list[tuple[Hook, Callable[[Callable], Callable]]]:
    """Methods of a model, and for each what makes the replacement of the method.

    Args:
        model: the segmentor.
        sounding: as in :func:`force_queries`.
        text_size: D of the classifier.
    """
    head, classifier = model.decode_head, model.classifier
    queries = partial(force_queries, sounding=sounding, made={})
    text = partial(drawn_embeddings, size=text_size)
    return [(Hook('queries', head, 'predict'), queries), (Hook('text', classifier, 'text_embeddings'), text)]
