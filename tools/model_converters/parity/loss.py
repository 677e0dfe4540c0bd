# SPDX-License-Identifier: Apache-2.0
"""Matching and losses of OV-AVSS against the published ones.

Predictions and targets are constant over each frame, yet the mask losses depend on the random points:
grid sampling takes what is outside the map for 0, so points within half a pixel of the border see
smaller logits, and where logits are small is preferred. The points behind ``loss_inner_seed*.npz`` lie
in [0.1, 0.9] of the map, where no value depends on them: drawn so here too, all losses are compared.
The points behind ``loss_seed*.npz`` lie anywhere and are not known: only its matches and its sound
cross-entropy are compared.
"""

from unittest import mock

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import Tensor

from ovavss_mm.models.losses.video_criterion import VideoCriterion, VideoTargets

from .common import Arrays, Line, compare, model_config, register

MAP_SIZE, LABEL_SIZE = (8, 12), (32, 48)  # of the predictions and targets behind the fixtures
CONFIG = 'ovavss/ovavss_r50_release.py'
_LOSSES = dict(ce='loss_sound', mask='loss_mask', dice='loss_dice')
_DRAWS = 12  # at most: where two queries fit a target alike, the points decide
_BOUND = 1e-4


@register('loss_inner')
def check_loss(fixture: Arrays, config: ConfigDict | None = None) -> list[Line]:
    """Compare matches and losses of all layers, with points in [0.1, 0.9] of the map.

    Args:
        fixture (Mapping[str, np.ndarray]): arrays of the file.
        config (ConfigDict, optional): of the model. Defaults to the released R50 one.

    Returns:
        list[Line]: all frames annotated (``v2``) and the first frame annotated (``v1s``).
    """
    rand, lines = torch.rand, []
    criterion = _criterion(config)
    with mock.patch('torch.rand', lambda *args, **kwargs: 0.1 + 0.8 * rand(*args, **kwargs)):
        for subset in ('v2', 'v1s'):
            pairs, losses = _run(criterion, _clip(fixture, subset), seed=0)
            lines.append(_compare_match(fixture, subset, pairs))
            for name, ours in losses.items():
                theirs = _per_layer(fixture, f'{subset}/loss_{name}')
                lines.append(compare(f'{subset}/loss_{name}', ours, theirs, _BOUND))
    return lines


@register('loss')
def check_matching(fixture: Arrays, config: ConfigDict | None = None) -> list[Line]:
    """Compare matches and the sound loss, which tells of every layer who was matched.

    Args:
        fixture (Mapping[str, np.ndarray]): arrays of the file.
        config (ConfigDict, optional): of the model. Defaults to the released R50 one.

    Returns:
        list[Line]: as :func:`check_loss` without mask and dice losses.
    """
    criterion, lines = _criterion(config), []
    for subset in ('v2', 'v1s'):
        theirs = _per_layer(fixture, f'{subset}/loss_ce')
        best, pairs = np.full(len(theirs), np.inf), None
        for seed in range(_DRAWS):
            drawn, losses = _run(criterion, _clip(fixture, subset), seed)
            differences = np.abs(losses['ce'].numpy() - theirs)
            pairs = drawn if differences[-1] < best[-1] else pairs
            best = np.fmin(best, differences)
            if (best <= _BOUND).all():
                break
        lines.append(_compare_match(fixture, subset, pairs or drawn))
        lines.append(Line(f'{subset}/loss_ce', theirs.shape, float(best.max()), _BOUND))
    return lines


def _criterion(config: ConfigDict | None) -> VideoCriterion:
    """The criterion of a model."""
    config = config or model_config(CONFIG)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return VideoCriterion(**config.decode_head.criterion)


def _run(criterion: VideoCriterion, clip: tuple, seed: int) -> tuple[set[tuple[int, int]], dict[str, Tensor]]:
    """Pairs (query, target) of the last layer, and losses before their weights."""
    logits, embed, pixels, targets = clip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pairs = criterion.match(logits, embed, pixels[targets.frames], targets)[-1]
        torch.manual_seed(seed)  # matching comes first in the losses too
        losses = criterion(*clip)
    weighted = {name: (losses[ours], getattr(criterion, ours)) for name, ours in _LOSSES.items()}
    return set(zip(*(index.tolist() for index in pairs), strict=True)), {
        name: value / module.loss_weight for name, (value, module) in weighted.items()
    }


def _clip(fixture: Arrays, subset: str) -> tuple[Tensor, Tensor, Tensor, VideoTargets]:
    """What the criterion takes; of a clip of ``v1s`` the first frame alone is annotated."""
    frames = torch.arange(1 if subset == 'v1s' else fixture['target_mask_const'].shape[1])
    logits = torch.from_numpy(fixture['pred_logits'])[:, 0]  # (layers, Q, 2)
    embed = torch.from_numpy(fixture['pred_mask_const'])[:, 0]  # (layers, Q, T)
    # One channel a frame: mask embeddings times these are constant over each frame.
    pixels = torch.eye(embed.shape[-1])[:, :, None, None].repeat(1, 1, *MAP_SIZE)
    present = torch.from_numpy(fixture['target_mask_const'])[:, frames] > 0  # (K, F)
    present = present[present.any(1)]
    masks = present[:, :, None, None].expand(-1, -1, *LABEL_SIZE)
    return logits, embed, pixels, VideoTargets(masks, frames)


def _compare_match(fixture: Arrays, subset: str, pairs: set[tuple[int, int]]) -> Line:
    """Compare the pairs of the last layer."""
    theirs = [fixture[f'{subset}/match_{what}'] for what in ('query', 'target')]
    differ = len(pairs ^ set(zip(*(index.tolist() for index in theirs), strict=True))) / 2
    return Line(f'{subset}/match', theirs[0].shape, differ, 0, 'pairs that differ')


def _per_layer(fixture: Arrays, name: str) -> np.ndarray:
    """The reference's loss of each layer, the last one last."""
    earlier = len(fixture['pred_logits']) - 1
    return np.array([fixture[f'{name}_{i}'] for i in range(earlier)] + [fixture[name]], float)
