# SPDX-License-Identifier: Apache-2.0
"""Matching and losses against the published ones.

Predictions and targets of a fixture are constant over each frame, yet the mask losses depend on the
random points: sampling takes what is outside the map for 0, so that points within half a pixel of
the border see smaller logits, and the points where logits are small are preferred. The points of
the reference are not known. So its mask and dice losses are compared with the distribution of ours
over many draws; what does not depend on points is compared as it is.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import Tensor

from ...losses.video_criterion import VideoCriterion, VideoTargets
from .lines import Line

MAP_SIZE = (8, 12)  # of the reference's predictions in pixels; it follows from its losses
_STRIDE = 4  # of the predictions
_MATCH_DRAWS = 12  # at most: where two queries fit a target alike, the points decide
_LOSS_DRAWS = 24
_CE_BOUND = 1e-4
_DEVIATIONS = 6


class _Clip(NamedTuple):
    """A fixture's predictions and targets as the criterion takes them."""

    logits: Tensor  # (layers, Q, 2)
    embed: Tensor  # (layers, Q, T)
    pixels: Tensor  # (T, T, h, w)
    targets: VideoTargets


def check_loss(
    config: ConfigDict, fixture: Mapping[str, np.ndarray], map_size: tuple[int, int] = MAP_SIZE
) -> list[Line]:
    """Compare matches and losses of all layers.

    Args:
        config: of the model, with the losses of the released model.
        fixture: of kind 'loss'.
        map_size: of the predictions in pixels; targets are four times as large.

    Returns:
        A line for each output, all annotated ('v2') and first frame annotated ('v1s').
    """
    with DefaultScope.overwrite_default_scope('mmseg'):
        criterion = VideoCriterion(**config.decode_head.criterion)
    num_frames = fixture['target_mask_const'].shape[1]
    lines = []
    for subset, frames in (('v2', torch.arange(num_frames)), ('v1s', torch.zeros(1).long())):
        clip = _clip(fixture, frames, map_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            matches, match_lines = _check_matches(criterion, clip, fixture, subset)
            lines += match_lines + _check_masks(criterion, clip, matches, fixture, subset)
    return lines


def _clip(fixture: Mapping[str, np.ndarray], frames: Tensor, map_size: tuple[int, int]) -> _Clip:
    """The fixture as a clip of which ``frames`` are annotated."""
    logits = torch.from_numpy(fixture['pred_logits'])[:, 0]
    embed = torch.from_numpy(fixture['pred_mask_const'])[:, 0]
    # One channel a frame: mask embeddings times these are constant over each frame.
    pixels = torch.eye(embed.shape[-1])[:, :, None, None].repeat(1, 1, *map_size)
    present = torch.from_numpy(fixture['target_mask_const'])[:, frames] > 0  # (K, F)
    present = present[present.any(1)]
    size = [_STRIDE * side for side in map_size]
    masks = present[:, :, None, None].expand(-1, -1, *size)
    return _Clip(logits, embed, pixels, VideoTargets(masks, frames))


def _check_matches(
    criterion: VideoCriterion, clip: _Clip, fixture: Mapping[str, np.ndarray], subset: str
) -> tuple[list[tuple[Tensor, Tensor]], list[Line]]:
    """Find matches with the reference's cross-entropy, which tells who was matched."""
    theirs = _per_layer(fixture, f'{subset}/loss_ce')
    best, matches = np.full(len(theirs), np.inf), [None] * len(theirs)
    for _ in range(_MATCH_DRAWS):
        annotated = clip.pixels[clip.targets.frames]
        drawn = criterion.match(clip.logits, clip.embed, annotated, clip.targets)
        for layer, match in enumerate(drawn):
            labels = torch.ones(clip.logits.shape[1], dtype=torch.long)
            labels[match[0]] = 0
            loss = criterion.loss_sound(clip.logits[layer], labels)
            difference = abs(float(loss) / criterion.loss_sound.loss_weight - theirs[layer])
            if difference < best[layer]:
                best[layer], matches[layer] = difference, match
        if (best <= _CE_BOUND).all():
            break
    query, target = (fixture[f'{subset}/match_{what}'] for what in ('query', 'target'))
    wanted = sorted(zip(query.tolist(), target.tolist(), strict=True))
    got = sorted(zip(*(indices.tolist() for indices in matches[-1]), strict=True))
    differ = len(set(wanted) ^ set(got)) / 2
    return matches, [
        Line(f'{subset}/match', query.shape, differ, 0, 'pairs that differ'),
        Line(f'{subset}/loss_ce', theirs.shape, float(best.max()), _CE_BOUND),
    ]


def _check_masks(
    criterion: VideoCriterion,
    clip: _Clip,
    matches: list[tuple[Tensor, Tensor]],
    fixture: Mapping[str, np.ndarray],
    subset: str,
) -> list[Line]:
    """Compare mask and dice losses with ours over many draws of points."""
    annotated = clip.pixels[clip.targets.frames]
    draws = [
        criterion._mask_losses(clip.embed, annotated, clip.targets, matches)
        for _ in range(_LOSS_DRAWS)
    ]
    lines = []
    for i, name in enumerate(('mask', 'dice')):
        theirs = _per_layer(fixture, f'{subset}/loss_{name}')
        weight = getattr(criterion, f'loss_{name}').loss_weight
        ours = torch.stack([draw[i] for draw in draws]).double().numpy() / weight  # (draws, layers)
        spread = np.hypot(ours.std(0, ddof=1) * np.sqrt(1 + 1 / len(ours)), 1e-5)
        deviations = np.abs(theirs - ours.mean(0)) / spread
        unit = f'standard deviations of {len(ours)} draws: the points of the reference are unknown'
        largest = float(deviations.max())  # NaN if any is
        lines.append(Line(f'{subset}/loss_{name}', theirs.shape, largest, _DEVIATIONS, unit))
    return lines


def _per_layer(fixture: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The reference's loss of each layer, the last one last."""
    earlier = len(fixture['pred_logits']) - 1
    return np.array([fixture[f'{name}_{i}'] for i in range(earlier)] + [fixture[name]], float)
