# SPDX-License-Identifier: Apache-2.0
"""CATR against the published one."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ovavss_mm.models.decode_heads.catr_head import CATRHead, FrameQueries
from ovavss_mm.models.losses.frame_query_criterion import frame_targets

from .common import Arrays, Line, Shapes, compare, outlier_share, register
from .tpavi import build_model

CONFIG = 'catr/catr_pvt-v2-b5_1xb2-100e_s4.py'
_BOUNDS = dict(spatial=1e-4, gate=1e-4, hs=1e-4, feat=1e-4, ctx=1e-4, vid_embed=1e-4, audio_tokens=1e-4)
_BOUNDS |= dict(temporal=1e-3, gated=3e-4, vid_memory=3e-4, mask_features=3e-4, pred_masks=2e-3, pred_is_referred=2e-4)
_BOUNDS |= {f'aux{i}_is_referred': 2e-4 for i in range(2)} | {f'aux{i}_masks_mean': 2e-3 for i in range(2)}
_WHOLE = ('audio_tokens', 'gate', 'pred', 'aux', 'best')  # of other outputs the first 8 channels were kept
_NAMES = dict(loss_cls='loss_is_referred', loss_focal='loss_sigmoid_focal', loss_dice='loss_dice', loss_bce='bce_loss')
_LOSS, _TOTAL = 1e-4, 1e-3


@register('catr', state_dict='state_dict_catr.json')
def check_catr(fixture: Arrays, shapes: Shapes) -> list[Line]:
    """Compare maps, tokens, queries, masks and losses."""
    scale = {'obj_queries.weight': float(fixture['queries_scale'])}
    model = build_model(CONFIG, shapes, int(fixture['seed']), scale)
    with torch.no_grad():
        return check_model(model, fixture)


def check_model(model: nn.Module, fixture: Arrays) -> list[Line]:
    """Compare a model with the fixture; frames are clip by clip here, and second by second there."""
    clips = torch.from_numpy(fixture['images']).transpose(0, 1)  # (B, T, 3, H, W)
    data = dict(inputs=dict(imgs=list(clips), audio=list(torch.from_numpy(fixture['audio']))))
    inputs = model.data_preprocessor(data)['inputs']
    imgs, sound = torch.stack(inputs['imgs']), torch.stack(inputs['audio'])
    backbone = model.backbone(imgs.flatten(0, 1))
    x = model.extract_feat(imgs, sound)
    found = {f'feat{i}': level for i, level in enumerate(backbone, start=1)}
    found |= {
        f'ctx{i}': sum(convs(level)) for i, (convs, level) in enumerate(zip(model.neck.convs, backbone, strict=True), 1)
    }
    outputs, queries = _head_outputs(model.decode_head, x)
    batch, frames = clips.shape[:2]

    def ordered(name: str, value: Tensor) -> Tensor:
        """In the fixture's order and shape."""
        if name.startswith('temporal') and name.endswith('audio'):
            return value[..., : fixture[name].shape[-1]]  # one row a clip
        axis = 1 if name == 'hs' else 0
        value = value.unflatten(axis, (batch, frames)).transpose(axis, axis + 1)
        if name not in ('audio_tokens', 'hs') and not name.startswith(('pred', 'aux', 'best')):
            value = value.flatten(0, 1)
        if name != 'gated' and name.startswith(_WHOLE):
            return value
        theirs = fixture[name].shape
        return value[..., : theirs[-1]] if name in ('hs', 'spatial_audio') else value[:, : theirs[1]]

    lines = []
    for name, value in (found | outputs).items():
        if name in fixture:
            kind = next(key for key in (name, name.split('_')[0].rstrip('0123456789')) if key in _BOUNDS)
            lines.append(compare(name, ordered(name, value), fixture[name], _BOUNDS[kind]))
    best = queries.class_logits[-1].softmax(-1)[..., 0].argmax(1)
    lines.append(compare('best_query', ordered('best', best), fixture['best_query'], 0))
    logits = model.decode_head.predict(x).flatten(0, 1)
    masks = F.interpolate(logits, clips.shape[-2:], mode='bilinear', align_corners=False)[:, 0] > 0
    unit = 'share of pixels'
    lines.append(compare('best_mask', ordered('best', masks), fixture['best_mask'], 1e-3, outlier_share(0), unit))
    return lines + _compare_losses(model.decode_head, x, fixture)


def _head_outputs(head: CATRHead, x: tuple) -> tuple[dict[str, Tensor], FrameQueries]:
    """What each stage of the head gives, frames clip by clip."""
    (_, level, *_), audio = x
    shape, frames = level.shape[-2:], torch.arange(len(level))
    visual, tokens, pos = head.embed(level, audio, torch.arange(audio.shape[1]))
    memory = head.spatial_memory(visual, tokens, pos, frames)
    length = visual.shape[2]
    out = dict(vid_embed=head.visual_proj(level), audio_tokens=tokens.flatten(0, 1), spatial_audio=memory[:, length:])
    out['spatial_visual'] = memory[:, :length].mT.unflatten(2, shape)
    state = visual, tokens
    maps = head.temporal_maps(visual, tokens, pos, shape)
    for i, layer in enumerate(head.temporal_layers):
        state = layer(*state, pos)
        out |= {f'temporal{i}_visual': maps[i], f'temporal{i}_audio': state[1]}
    out['gate'] = head.gate.gate(*maps[:2])
    out['gated'] = head.gate.gated(out['gate'], maps[1])
    out['vid_memory'] = head.gate(maps)
    out['mask_features'] = head.mask_features(out['vid_memory'], [x[0][i] for i in head.mask_levels])
    kept = []
    handle = head.decoder.register_forward_hook(lambda module, args, result: kept.append(result))
    queries = head(x)
    handle.remove()
    out |= dict(hs=kept[0], pred_masks=queries.mask_logits[-1], pred_is_referred=queries.class_logits[-1])
    for i in range(len(queries.mask_logits) - 1):
        out[f'aux{i}_is_referred'] = queries.class_logits[i]
        out[f'aux{i}_masks_mean'] = queries.mask_logits[i].mean((-2, -1))
    return out, queries


def _compare_losses(head: CATRHead, x: tuple, fixture: Arrays) -> list[Line]:
    """Compare matches and losses of the first frame of each clip."""
    first = torch.arange(0, len(x[0][0]), x[1].shape[1])
    labels = torch.from_numpy(fixture['target_masks'][:, 0]).long()
    queries = head(x, first)
    layers = [-1, *range(len(queries.class_logits) - 1)]  # the fixture's order
    targets = [frame_targets(frame, 1) for frame in labels]
    pairs = [head.criterion.match(queries.class_logits[i], queries.mask_logits[i], targets) for i in layers]
    match = np.array([[int(query[0]) for query, _ in layer] for layer in pairs])
    lines = [compare('match_query', match, fixture['match_query'], 0)]
    losses = head.criterion(*queries, labels)
    lines.append(compare('loss_total', sum(v.sum() for v in losses.values()), fixture['loss_total'], _TOTAL))
    criterion = head.criterion
    weights = dict(loss_cls=criterion.class_weight, loss_bce=criterion.bce_weight)
    weights |= dict(loss_focal=criterion.loss_focal.loss_weight, loss_dice=criterion.loss_dice.loss_weight)
    for name, theirs in _NAMES.items():
        for i, value in enumerate(losses[name] / weights[name]):
            key = theirs if i + 1 == len(losses[name]) else f'{theirs}_{i}'
            lines.append(compare(key, value, fixture[key], _LOSS))
    return lines
