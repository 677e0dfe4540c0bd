# SPDX-License-Identifier: Apache-2.0
"""CLIP-VIS against the published one."""

import torch
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from released.checkpoints import clip_config, fit
from released.clip_vis import CLIP, CLIP_VIS, CLIP_VIS_DROPPED
from released.keys import convert
from torch import nn
from torch.nn import functional as F

from ovavss_mm.models.skeleton import build_skeleton

from .common import Arrays, Line, Shapes, class_names, compare, draw_state, model_config, register
from .frame_queries import check_frames, check_losses, check_pairs, check_post, leading, model_inputs

CONFIG = 'clip_vis/clip-vis_rn50_1xb1-82k_avsbench-ov.py'


def build_model(shapes: Shapes, fixture: Arrays) -> nn.Module:
    """Build the model with drawn weights, by way of a published checkpoint; the CLIP is that of ``shapes``."""
    config, state = model_config(CONFIG), draw_state(shapes, int(fixture['seed']), fixture)
    for part in (config.backbone, config.classifier):
        part.update(clip_model=clip_config(state, CLIP), init_cfg=None)
    state = fit(convert(state, CLIP_VIS_DROPPED, CLIP_VIS), build_skeleton(config), what=CONFIG)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config)
    model.load_state_dict(state, strict=True)
    return model.eval()


@register('clip_vis', state_dict='state_dict_clip_vis.json')
def check_clip_vis(fixture: Arrays, shapes: Shapes) -> list[Line]:
    """Compare the network, the linking, the naming, the label map and the losses."""
    return check_model(build_model(shapes, fixture), fixture)


@torch.no_grad()
def check_model(model: nn.Module, fixture: Arrays) -> list[Line]:
    """Compare a model with the fixture."""
    data = model_inputs(model, fixture)
    queries, lines = check_frames(model, data['inputs']['imgs'][0], fixture)
    lines.append(compare('link_index', model.tracker(queries).link_index, fixture['link_index'], 0))
    (linked,) = model.encode_decode(data['inputs'])
    lines += _check_naming(model.classifier, linked, data, fixture)
    lines += check_pairs(model, data, linked[:], fixture)
    index = model.tracker.link(torch.from_numpy(fixture['link_embeds']))
    lines.append(compare('link_embeds_index', index, fixture['link_embeds_index'], 0))
    lines += _check_pool(model.classifier, fixture)
    iou, objects, masks, probs = (
        torch.from_numpy(fixture[f'post/{x}']) for x in ('iou', 'object_logits', 'masks', 'clip_probs')
    )
    scores = objects.mean(1).softmax(-1)[:, 0]
    named = InstanceData(scores=scores, masks=masks, object_logits=objects, ious=iou)
    lines += check_post(model.classifier.combine_frames(named, probs), fixture)
    return lines + check_losses(model.decode_head.criterion, fixture)


def _check_naming(classifier: nn.Module, linked: InstanceData, data: dict, fixture: Arrays) -> list[Line]:
    """Compare text embeddings, pooled masks of slots, their logits, and the scores of all pairs."""
    names, frames = data['data_samples'][0].vocabulary, data['inputs']['frames'][0]
    masks = F.interpolate(linked.masks, linked.dense_map.shape[-2:], mode='bilinear', align_corners=False) > 0
    pooled = classifier.pool(linked.dense_map, masks.transpose(0, 1))
    logits, valid = classifier.frame_logits(frames, linked, names, data['data_samples'][0].pad_shape)
    scores = classifier(frames, linked[:], names, data['data_samples'][0].pad_shape).class_scores
    found = dict(
        text_embeds=(classifier.text_embeddings(names), 1e-4),
        mask_empty=(~valid.T, 0),
        pooled=(pooled[..., ::16], 3e-4),
        clip_logits=(logits[::2].transpose(0, 1), 5e-3),
        pair_scores_all=(scores, 1e-3),
    )
    return [compare(name, leading(x, fixture[name]), fixture[name], bound) for name, (x, bound) in found.items()]


def _check_pool(classifier: nn.Module, fixture: Arrays) -> list[Line]:
    """Compare the single step of pooling."""
    dense = torch.from_numpy(fixture['pool/dense']).float()[None]
    masks = torch.from_numpy(fixture['pool/mask_logits'])[:, None]  # (S, 1, h, w)
    queries = InstanceData(masks=masks, metainfo=dict(dense_map=dense))
    logits, _ = classifier.frame_logits(dense, queries, class_names().names, dense.shape[-2:])
    embeds = leading(classifier.pool(dense, masks.transpose(0, 1) > 0)[0], fixture['pool/embeds'])
    return [
        compare('pool/embeds', embeds, fixture['pool/embeds'], 3e-4),
        compare('pool/logits', logits[:, 0], fixture['pool/logits'], 5e-3),
    ]
