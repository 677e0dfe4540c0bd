# SPDX-License-Identifier: Apache-2.0
"""The network and its classifier against the published ones."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ...segmentors.label_map import best_pairs, resize_masks
from ..checkpoints import fit
from ..keys import convert
from ..skeleton import build_skeleton, clip_config
from .lines import Line, compare
from .recipe import draw_state

_CLIP = 'clip_adapter.clip_model.'
NETWORK_OUTPUTS = (
    *(f'feat_res{i}' for i in range(2, 6)),
    'audio_fused',
    'mask_features',
    *(f'ms_{i}' for i in range(3)),
    'pred_logits',
    'pred_masks',
    *(f'aux{i}_{what}' for i in (0, 4, 8) for what in ('logits', 'masks_mean')),
)
_TIE = 1e-3  # scores that are closer may come in another order


def _set_clip(config: ConfigDict, shapes: Mapping[str, Sequence[int]]) -> None:
    """Have a classifier's config build the CLIP of a published checkpoint."""
    state = {
        key[len(_CLIP) :]: torch.empty(tuple(shape), device='meta')
        for key, shape in shapes.items()
        if key.startswith(_CLIP)
    }
    config.update(clip=clip_config(state), init_cfg=None)


def build_model(config: ConfigDict, shapes: Mapping[str, Sequence[int]], seed: int) -> nn.Module:
    """Build a model with drawn weights, by way of a published checkpoint.

    Args:
        config: of the model; the CLIP is that of ``shapes``.
        shapes: published names to shapes.
        seed: of the fixture.

    Returns:
        The model in evaluation mode.

    Raises:
        ValueError: the names or shapes do not fit the config.
    """
    config = config.copy()
    config.audio_encoder = dict(config.audio_encoder, init_cfg=None)
    config.classifier = ConfigDict(config.classifier)
    _set_clip(config.classifier, shapes)
    state = fit(convert(draw_state(shapes, seed)), build_skeleton(config))
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config)
    model.load_state_dict(state, strict=True)
    return model.eval()


def build_classifier(
    config: ConfigDict, shapes: Mapping[str, Sequence[int]], seed: int
) -> nn.Module:
    """Build a classifier with drawn weights.

    Args:
        config: of the model that it belongs to.
        shapes: published names to shapes.
        seed: of the fixture.

    Returns:
        The classifier in evaluation mode.
    """
    config = ConfigDict(config.classifier)
    _set_clip(config, shapes)
    with DefaultScope.overwrite_default_scope('mmseg'):
        classifier = MODELS.build(config)
    shapes = {key: shape for key, shape in shapes.items() if key.startswith(_CLIP)}
    state = convert(draw_state(shapes, seed)).state
    state = {key.removeprefix('classifier.'): value for key, value in state.items()}
    classifier.load_state_dict(state, strict=True)
    return classifier.eval()


def _inputs(model: nn.Module, fixture: Mapping[str, np.ndarray], names: Sequence[str] = ()) -> dict:
    """The fixture's clip as the model takes it."""
    clip = dict(
        imgs=[torch.from_numpy(fixture['images'])], audio=[torch.from_numpy(fixture['audio'])]
    )
    sample = SegDataSample(metainfo=dict(vocabulary=tuple(names)))
    return model.data_preprocessor(dict(inputs=clip, data_samples=[sample]))


def _outlier_share(bound: float) -> Callable[[np.ndarray, np.ndarray], float]:
    """Make the measure: share of values further apart than ``bound``."""

    def share(ours: np.ndarray, theirs: np.ndarray) -> float:
        return float(np.mean(~(np.abs(ours - theirs) <= bound)))

    return share


@torch.no_grad()
def check_network(model: nn.Module, fixture: Mapping[str, np.ndarray]) -> list[Line]:
    """Compare what each stage of the network gives.

    Args:
        model: with drawn weights.
        fixture: of kind 'network'; of maps it may hold the first channels only.

    Returns:
        A line for each output that the fixture holds.
    """
    inputs = _inputs(model, fixture)['inputs']
    imgs, audio = inputs['imgs'][0], inputs['audio'][0]
    maps = {f'feat_res{i}': x for i, x in enumerate(model.backbone(imgs), start=2)}
    feats, fused = model.extract_feat(imgs[None], audio[None])
    maps['mask_features'], levels = model.decode_head.pixel_decoder(feats)
    maps.update({f'ms_{i}': x for i, x in enumerate(levels)})
    queries = model.decode_head((feats, fused))
    outputs = {
        name: (maps[name][:, : x.shape[1]], 1e-4) for name, x in fixture.items() if name in maps
    }
    outputs['audio_fused'] = fused[0], 1e-4
    outputs['pred_logits'] = queries.sound_logits[-1], 1e-3
    for i in (0, 4, 8):
        outputs[f'aux{i}_logits'] = queries.sound_logits[i], 1e-3
        outputs[f'aux{i}_masks_mean'] = queries.masks(i).mean((-2, -1)), 5e-3
    lines = [
        compare(name, ours, fixture[name], bound)
        for name, (ours, bound) in outputs.items()
        if name in fixture
    ]
    if 'pred_masks' in fixture:
        masks = queries.masks(), fixture['pred_masks']
        largest = compare('pred_masks', *masks, 5e-3).difference
        unit = f'share of pixels that differ by over 5e-3 (largest difference {largest:.1e})'
        lines.append(compare('pred_masks', *masks, 1e-3, _outlier_share(5e-3), unit))
    return lines


@torch.no_grad()
def check_clip(
    classifier: nn.Module, fixture: Mapping[str, np.ndarray], names: Sequence[str]
) -> list[Line]:
    """Compare crops and embeddings.

    Args:
        classifier: with drawn weights.
        fixture: of kind 'clip'.
        names: the vocabulary of the fixture.

    Returns:
        A line for each output.
    """
    masks = torch.from_numpy(fixture['masks'].astype(np.float32))  # (T, M, H, W)
    valid = (masks > 0.5).flatten(2).any(-1)
    lines = [compare('valid', valid, fixture['valid'], 0)]
    frame, mask = torch.from_numpy(fixture['valid']).nonzero(as_tuple=True)
    crops = classifier.crop(torch.from_numpy(fixture['frames']), frame, masks[frame, mask])
    lines.append(compare('regions', crops, fixture['regions'], 1e-2))
    images, text = classifier.encode(crops), classifier.text_embeddings(tuple(names))
    lines.append(compare('image_embeds', images, fixture['image_embeds'], 1e-4))
    lines.append(compare('text_embeds', text, fixture['text_embeds'], 1e-4))
    similarity = classifier.logit_scale * images @ text.T
    lines.append(compare('similarity', similarity, fixture['similarity'], 1e-2))
    return lines


@torch.no_grad()
def check_end_to_end(
    model: nn.Module, fixture: Mapping[str, np.ndarray], names: Sequence[str]
) -> list[Line]:
    """Compare the best pairs of query and name, and the label map.

    Args:
        model: with drawn weights, and the classifier of the released model.
        fixture: of kind 'end to end'.
        names: the vocabulary of the fixture.

    Returns:
        A line for each output.
    """
    data = _inputs(model, fixture, names)
    frames, sample = data['inputs']['frames'][0], data['data_samples'][0]
    queries = model.decode_head.predict(
        model.extract_feat(data['inputs']['imgs'][0][None], data['inputs']['audio'][0][None])
    )[0]
    named = model.classifier(frames, queries, tuple(names), sample.pad_shape)
    count = len(fixture['scores'])
    pairs = best_pairs(named, 2 * count, -1.0)
    size = tuple(frames.shape[-2:])
    masks = resize_masks(pairs.masks, sample.pad_shape, size) > 0
    scores, labels = fixture['scores'], fixture['labels']
    rivals = pairs.scores.numpy() >= scores.min() - _TIE
    lines = [
        compare('scores, sorted', pairs.scores[:count], -np.sort(-scores), 1e-3),
        compare('labels, sorted', pairs.labels[:count].sort().values, np.sort(labels), 0),
        _compare_masks(masks[rivals], fixture['masks']),
    ]
    label_map = model.predict(**data)[0].pred_sem_seg.data
    unit = 'share of pixels that differ'
    lines.append(
        compare('label_map', label_map, fixture['label_map'], 1e-3, _outlier_share(0), unit)
    )
    return lines


def _compare_masks(ours: Tensor, theirs: np.ndarray) -> Line:
    """Compare masks in any order: each of theirs with another of ours, as they fit best."""
    name, bound, unit = 'masks, best pairing', 1e-3, 'share of pixels that differ'
    ours = ours.numpy()
    if ours.shape[1:] != theirs.shape[1:] or len(ours) < len(theirs):
        return Line(name, theirs.shape, float('inf'), bound, f'ours has shape {ours.shape}')
    differ = np.array([[np.mean(a != b) for b in ours] for a in theirs])
    return Line(
        name, theirs.shape, float(differ[linear_sum_assignment(differ)].mean()), bound, unit
    )
