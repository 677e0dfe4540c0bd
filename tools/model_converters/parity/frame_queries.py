# SPDX-License-Identifier: Apache-2.0
"""What the comparisons of models of single frames (OV2Seg, CLIP-VIS) have in common."""

from unittest import mock

import numpy as np
import torch
from mmengine.structures import InstanceData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ovavss_mm.models.losses.frame_criterion import FrameCriterion
from ovavss_mm.models.losses.video_criterion import VideoTargets
from ovavss_mm.models.segmentors.label_map import (
    FRAME_SHARE,
    best_pairs,
    drop_frames,
    mask_quality,
    paint,
    resize_pairs,
)

from .common import Arrays, Line, class_names, compare, outlier_share

MAP_SIZE, LABEL_SIZE = (8, 8), (32, 32)  # of the predictions and targets behind the losses
_UNIT = 'share of pixels that differ'
# names of losses in the fixtures: ours, and the weight that is not in theirs
_LOSSES = dict(ce='loss_name', object_ce='loss_object', mask='loss_mask', dice='loss_dice', iou='loss_iou')
_WEIGHTS = dict(ce=2.0, object_ce=2.0, mask=5.0, dice=5.0, iou=2.0)


def model_inputs(model: nn.Module, fixture: Arrays) -> dict:
    """The fixture's frames as the model takes them, without sound, with the names of AVSBench-OV."""
    clip = dict(imgs=[torch.from_numpy(fixture['images'])], audio=[torch.zeros(len(fixture['images']), 0)])
    sample = SegDataSample(metainfo=dict(vocabulary=class_names().names))
    return model.data_preprocessor(dict(inputs=clip, data_samples=[sample]))


def check_frames(model: nn.Module, imgs: Tensor, fixture: Arrays) -> tuple[list[InstanceData], list[Line]]:
    """Compare what each stage gives for normalised frames (T, 3, H, W); of maps the first channels.

    Returns:
        tuple: the queries of each frame, and the lines.
    """
    audio = imgs.new_zeros(1, len(imgs), 0)
    maps = {f'feat_res{i}': x for i, x in enumerate(model.backbone(imgs), start=2)}
    x = model.extract_feat(imgs[None], audio)
    maps['mask_features'], levels = model.decode_head.pixel_decoder(x[0])
    maps |= {f'ms_{i}': level for i, level in enumerate(levels)}
    lines = [compare(name, leading(ours, fixture[name]), fixture[name], 1e-4) for name, ours in maps.items()]
    predictions, frames = model.decode_head(x), model.decode_head.predict(x)[0]
    found = dict(object_logits=predictions.sound_logits[-1], query_embeds=predictions.query_embed[-1])
    for name in sorted(fixture):
        if name.startswith('aux'):
            layer, what = int(name[3]), name[5:]
            every = dict(object_logits=predictions.sound_logits[layer])
            every['mask_mean'] = predictions.masks(layer).mean((-3, -2, -1))
            every['iou'] = model.decode_head.ious(predictions.query_embed[layer])
            found[name] = every[what]
    if 'iou' in fixture:
        found['iou'] = model.decode_head.ious(predictions.query_embed[-1])
        found['query_embeds'] = found['query_embeds'][..., ::8]  # of CLIP-VIS every 8th channel was kept
    unit = 'share of queries that differ by over 3e-4'
    found['pred_masks'] = torch.stack([frame.masks[:, 0] for frame in frames])
    lines += [
        compare(name, leading(ours, fixture[name]), fixture[name], 0.02, _query_share, unit)
        for name, ours in found.items()
    ]
    return frames, lines


def leading(ours: Tensor, theirs: np.ndarray) -> Tensor:
    """The part of an output that was kept: the first of each axis."""
    return ours[tuple(slice(size) for size in theirs.shape)]


def _query_share(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest share of the queries of a frame, of (T, Q, ...), that have a value beyond the bound."""
    beyond = ~(np.abs(ours - theirs) <= 3e-4)
    return float(beyond.reshape(*beyond.shape[:2], -1).any(-1).mean(1).max())


def check_pairs(model: nn.Module, data: dict, linked: InstanceData, fixture: Arrays) -> list[Line]:
    """Compare the best pairs of linked queries, and the label map that they paint."""
    frames, sample = data['inputs']['frames'][0], data['data_samples'][0]
    named = model.classifier(frames, linked, sample.vocabulary, sample.pad_shape)
    pairs = best_pairs(named, len(fixture['scores']), -1.0)
    size = tuple(frames.shape[-2:])
    painted = pairs[pairs.scores > float(fixture['paint_threshold'])]
    masks = resize_pairs(painted, size, sample.pad_shape, size).masks
    label_map = torch.stack([paint(painted.labels.tolist(), masks[:, t]) for t in range(len(frames))])
    all_masks = resize_pairs(pairs, size, sample.pad_shape, size).masks
    query, label, clip, dropped = _ordered_pairs(named, len(pairs))
    return [
        compare('pair_clip_score', clip.sort().values, np.sort(fixture['pair_clip_score']), 1e-3),
        compare('scores', pairs.scores, fixture['scores'], 1e-3),
        compare('pair_query', query.sort().values, np.sort(fixture['pair_query']), 0),
        compare('pair_label', label.sort().values, np.sort(fixture['pair_label']), 0),
        compare('pair_ignored', dropped, fixture['pair_ignored'], 0),
        compare('masks', all_masks, fixture['masks'], 1e-3, outlier_share(0), _UNIT),
        compare('label_map', label_map, fixture['label_map'], 1e-3, outlier_share(0), _UNIT),
    ]


def check_post(named: InstanceData, fixture: Arrays) -> list[Line]:
    """Compare the single step from named queries to pairs."""
    count = len(fixture['post/scores'])
    found = dict(zip(('query', 'label', 'clip_score', 'dropped'), _ordered_pairs(named, count), strict=True))
    found['scores'] = best_pairs(named, count, -1.0).scores
    return [
        compare(f'post/{name}', value, fixture[f'post/{name}'], 1e-5 if 'score' in name else 0)
        for name, value in found.items()
    ]


def _ordered_pairs(named: InstanceData, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, name, clip score (M,) and dropped frames (M, T) of the best pairs, highest final score first."""
    num_names = named.class_scores.shape[1]
    scores, order = named.class_scores.flatten().topk(count)
    query, label = order // num_names, order % num_names
    dropped = named.frame_scores[query, :, label] < FRAME_SHARE * scores[:, None]
    best = (scores * mask_quality(drop_frames(named.masks[query], dropped))).argsort(descending=True, stable=True)
    return query[best], label[best], scores[best], dropped[best]


def check_losses(criterion: FrameCriterion, fixture: Arrays) -> list[Line]:
    """Compare matches and losses of two images, with points in [0.1, 0.9] of the map, where masks are constant."""

    def array(name: str) -> Tensor:
        return torch.from_numpy(fixture[f'loss/{name}'])

    targets = []
    for i in range(2):
        masks = array(f'target_mask{i}')[:, None, None, None].expand(-1, 1, *LABEL_SIZE) > 0.5
        labels = array(f'target_labels{i}') if f'loss/target_labels{i}' in fixture else None
        targets.append(VideoTargets(masks, torch.zeros(1, dtype=torch.long), labels, labels))
    objects, masks = array('object_logits'), array('mask_const')[..., None]
    names = array('class_logits')[..., :-1] if 'loss/class_logits' in fixture else None
    ious = array('iou') if 'loss/iou' in fixture else None
    pixels, rand = torch.ones(2, 1, *MAP_SIZE), torch.rand
    with mock.patch('torch.rand', lambda *args, **kwargs: 0.1 + 0.8 * rand(*args, **kwargs)):
        torch.manual_seed(0)
        losses = criterion(objects, masks, pixels, targets, names, ious)
        matches = [
            criterion.match(objects[:, i], masks[:, i], pixels[i : i + 1], t, None if names is None else names[:, i])
            for i, t in enumerate(targets)
        ]
    lines = []
    for i, match in enumerate(matches):
        order = np.argsort(fixture[f'loss/match_target{i}'])
        theirs = fixture[f'loss/match_query{i}'][order]
        lines.append(compare(f'loss/match_query{i}', match[-1][0], theirs, 0))
    for theirs, ours in _LOSSES.items():
        if f'loss/loss_{theirs}' not in fixture:
            continue
        *earlier, last = losses[ours] / _WEIGHTS[theirs]
        values = {f'loss/loss_{theirs}': last} | {f'loss/loss_{theirs}_{i}': v for i, v in enumerate(earlier)}
        lines += [compare(name, value, fixture[name], 1e-4) for name, value in values.items()]
    return lines
