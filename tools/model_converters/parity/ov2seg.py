# SPDX-License-Identifier: Apache-2.0
"""OV2Seg against the published one."""

import torch
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from released.checkpoints import fit
from released.keys import convert
from released.ov2seg import OV2SEG, OV2SEG_DROPPED
from torch import Tensor, nn

from .common import Arrays, Line, Shapes, class_names, compare, draw_state, model_config, register
from .frame_queries import check_frames, check_losses, check_pairs, check_post, leading, model_inputs

CONFIG = 'ov2seg/ov2seg_r50_1xb1-82k_avsbench-ov.py'


def build_model(shapes: Shapes, fixture: Arrays) -> nn.Module:
    """The model with drawn weights and the fixture's names, whose text tower is not compared."""
    config = model_config(CONFIG)
    config.backbone.init_cfg = config.classifier.init_cfg = None
    drawn = convert(draw_state(shapes, int(fixture['seed']), fixture), OV2SEG_DROPPED, OV2SEG)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config).eval()
    model.load_state_dict(fit(drawn, model, (r'classifier\.',), CONFIG), strict=False)
    text = torch.from_numpy(fixture['text_embeds'])
    model.classifier.text_embeddings = lambda names, show_progress=False: text
    return model


@register('ov2seg', state_dict='state_dict_ov2seg.json')
def check_ov2seg(fixture: Arrays, shapes: Shapes) -> list[Line]:
    """Compare the model with drawn weights, see :func:`check_model`."""
    return check_model(build_model(shapes, fixture), fixture)


@torch.no_grad()
def check_model(model: nn.Module, fixture: Arrays) -> list[Line]:
    """Compare the network, the linking, the naming, the label map and the losses."""
    data, names = model_inputs(model, fixture), class_names().names
    queries, lines = check_frames(model, data['inputs']['imgs'][0], fixture)
    rows = model.classifier.text_rows(names)
    logits = torch.einsum('tqd,nd->tqn', torch.stack([q.text_embeds for q in queries]), rows)
    lines.append(_compare_logits('class_logits', logits, fixture))
    linked = model.tracker(queries)
    lines.append(compare('link_index', linked.link_index, fixture['link_index'], 0))
    lines.append(compare('clip_object_logits', linked.object_logits.mean(1), fixture['clip_object_logits'], 3e-4))
    clip_logits = (linked.text_embeds @ rows.T).mean(1)
    lines.append(_compare_logits('clip_class_logits', clip_logits, fixture))
    lines += check_pairs(model, data, linked, fixture)
    if 'link_embeds' in fixture:
        index = model.tracker.link(torch.from_numpy(fixture['link_embeds']))
        lines.append(compare('link_embeds_index', index, fixture['link_embeds_index'], 0))
    lines += check_post(_named(model, fixture), fixture)
    return lines + check_losses(model.decode_head.criterion, fixture)


def _compare_logits(name: str, ours: Tensor, fixture: Arrays) -> Line:
    """Compare logits of names; the last ones of the fixture are 0 and of none."""
    theirs = fixture[name][..., :-1]
    return compare(name, leading(ours, theirs), theirs, 5e-3)


def _named(model: nn.Module, fixture: Arrays) -> InstanceData:
    """The linked logits of the single step of naming, named."""
    logits, objects, masks = (
        torch.from_numpy(fixture[f'post/{x}']) for x in ('class_logits', 'object_logits', 'masks')
    )
    embeds = logits / model.classifier.logit_scale  # their products with the rows of one-hot names are the logits
    scores = objects.mean(1).softmax(-1)[:, 0]
    queries = InstanceData(scores=scores, masks=masks, object_logits=objects, text_embeds=embeds)
    text = model.classifier.text_embeddings
    model.classifier.text_embeddings = lambda names, show_progress=False: torch.eye(logits.shape[-1])
    named = model.classifier(None, queries, [str(i) for i in range(logits.shape[-1])], None)
    model.classifier.text_embeddings = text
    return named
