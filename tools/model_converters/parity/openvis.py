# SPDX-License-Identifier: Apache-2.0
"""OpenVIS against the published one (its first version: masks of a clip, then CLIP on square crops)."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from mmengine.structures import InstanceData
from mmseg.structures import SegDataSample
from released.checkpoints import clip_config
from torch import Tensor, nn

from ovavss_mm.models.classifiers import InstanceTokenClassifier
from ovavss_mm.models.segmentors.label_map import best_pairs, resize_masks

from .common import Arrays, Line, Shapes, class_names, compare, outlier_share, register
from .ovavss import build_model

CONFIG = 'openvis/openvis_r50_clip-vit-b32_1xb1-82k_avsbench-ov.py'
_NETWORK, _SIMILARITY, _EMBEDS, _SCORES = 3e-4, 5e-3, 1e-4, 1e-3
_PIXELS = 'share of pixels that differ'
_NAMES = ('text_embeds', 'valid', 'image_embeds', 'similarity', 'query_valid', 'query_probs', 'regions')
_OWN = {name: name for name in _NAMES}
_NAMED = dict(valid='named/valid', similarity='named/similarity', query_valid='named/query', query_probs='named/probs')


@register('openvis', state_dict='state_dict_openvis.json')
def check_openvis(fixture: Arrays, shapes: Shapes) -> list[Line]:
    """Compare maps, queries, names and the label map."""
    return check_model(build_model(CONFIG, shapes, int(fixture['seed']), fixture), fixture)


@torch.no_grad()
def check_model(model: nn.Module, fixture: Arrays) -> list[Line]:
    """Compare a model with the fixture."""
    images = torch.from_numpy(fixture['images'])
    sample = SegDataSample(metainfo=dict(vocabulary=class_names().names))
    clip = dict(imgs=[images], audio=[torch.zeros(len(images), 1)])  # nothing hears it
    data = model.data_preprocessor(dict(inputs=clip, data_samples=[sample]))
    pad_shape = data['data_samples'][0].pad_shape
    lines, queries = _check_network(model, data['inputs']['imgs'][0], fixture)
    lines += _check_names(model.classifier, images, queries, pad_shape, fixture, _OWN)
    lines += _check_pairs(model, data, queries, fixture)
    masks = torch.from_numpy(fixture['named/mask_logits'])
    own = InstanceData(masks=masks, scores=torch.ones(len(masks)), index=torch.arange(len(masks)))
    lines += _check_names(model.classifier, images, own, pad_shape, fixture, _NAMED)
    return lines + _check_guided(model.classifier, images, fixture)


def _queries_beyond(bound: float, axes: int) -> Callable[[np.ndarray, np.ndarray], float]:
    """Make the measure: share of queries that differ by over ``bound`` anywhere in their last ``axes`` axes."""

    def share(ours: np.ndarray, theirs: np.ndarray) -> float:
        beyond = ~(np.abs(ours - theirs) <= bound)
        return float(beyond.any(axis=tuple(range(-axes, 0))).mean() if axes else beyond.mean())

    return share


def _compare_queries(name: str, ours: Tensor, theirs: np.ndarray, axes: int) -> Line:
    """Compare what the network says of queries: a mask value that crosses 0 in a layer may move single ones."""
    ours = ours[:, : theirs.shape[1]]
    largest = compare(name, ours, theirs, _NETWORK).difference
    unit = f'share of queries that differ by over {_NETWORK:.0e} (largest difference {largest:.1e})'
    return compare(name, ours, theirs, 0.02, _queries_beyond(_NETWORK, axes), unit)


def _check_network(model: nn.Module, imgs: Tensor, fixture: Arrays) -> tuple[list[Line], InstanceData]:
    """Compare maps, of which the fixture has the first channels, and queries; the queries of the last layer."""
    maps = {f'feat_res{i}': x for i, x in enumerate(model.backbone(imgs), start=2)}
    x = model.extract_feat(imgs[None], imgs.new_zeros(1, len(imgs), 1))
    maps['mask_features'], levels = model.decode_head.pixel_decoder(x[0])
    maps |= {f'ms_{i}': level for i, level in enumerate(levels)}
    lines = [
        compare(name, ours[:, : fixture[name].shape[1]], fixture[name], 1e-4)
        for name, ours in maps.items()
        if name in fixture
    ]
    found = model.decode_head(x)
    outputs = dict(pred_logits=(found.sound_logits[-1], 1), pred_masks=(found.masks(), 2))
    for i in (0, 3):
        outputs[f'aux{i}_logits'] = found.sound_logits[i], 1
        outputs[f'aux{i}_mask_mean'] = found.masks(i).mean((-2, -1)), 0
    lines += [_compare_queries(name, ours, fixture[name], n) for name, (ours, n) in outputs.items() if name in fixture]
    (queries,) = model.decode_head.predict(x)
    queries.index = torch.arange(len(queries))
    return lines, queries


def _check_names(
    classifier: nn.Module,
    images: Tensor,
    queries: InstanceData,
    pad_shape: tuple[int, int],
    fixture: Arrays,
    keys: Mapping[str, str],
) -> list[Line]:
    """Compare what CLIP says of the masks, in the fixture's order of frames, then queries, under the fixture's keys."""
    embeds, valid = classifier.embed_masks(images, queries, pad_shape)
    text = classifier.text_embeddings(class_names().names)
    place = valid.new_zeros(valid.shape, dtype=torch.long)
    place[valid] = torch.arange(len(embeds))
    embeds = embeds[place.T[valid.T]]
    similarity = classifier.logit_scale * embeds @ text.T
    step = -(-len(text) // fixture[keys['similarity']].shape[1])  # each second name of many masks
    named = classifier(images, queries, class_names().names, pad_shape)
    outputs = dict(text_embeds=(text, _EMBEDS), valid=(valid.T, 0), image_embeds=(embeds[:, ::2], _EMBEDS))
    outputs['similarity'] = similarity[:, ::step], _SIMILARITY
    outputs |= dict(query_valid=(named.index, 0), query_probs=(named.class_scores, _SCORES))
    if 'regions' in keys:
        frame, query = valid.T.nonzero()[torch.from_numpy(fixture['region_index'])].T
        masks = resize_masks(queries.masks[query, frame][None], pad_shape)[0].sigmoid()
        outputs['regions'] = classifier.crop(images, frame, masks), 1e-2
    return [compare(key, outputs[name][0], fixture[key], outputs[name][1]) for name, key in keys.items()]


def _check_pairs(model: nn.Module, data: dict, queries: InstanceData, fixture: Arrays) -> list[Line]:
    """Compare the best pairs of query and name, and the label map of those above the fixture's threshold."""
    frames, sample = data['inputs']['frames'][0], data['data_samples'][0]
    named = model.classifier(frames, queries, sample.vocabulary, sample.pad_shape)
    flat = named.class_scores.flatten()
    order = flat.topk(len(fixture['scores'])).indices
    query, label = named.index[order // named.class_scores.shape[1]], order % named.class_scores.shape[1]
    masks = resize_masks(queries.masks[query], sample.pad_shape, tuple(frames.shape[-2:])) > 0
    ours = np.lexsort((label, query))
    theirs = np.lexsort((fixture['pair_label'], fixture['pair_query']))
    pairs = best_pairs(named, len(order), -1.0)
    lines = [
        compare('pair_query', query[ours], fixture['pair_query'][theirs], 0),
        compare('pair_label', label[ours], fixture['pair_label'][theirs], 0),
        compare('scores', pairs.scores, -np.sort(-fixture['scores']), _SCORES),
        compare('masks', masks[ours], fixture['masks'][theirs], 1e-3, outlier_share(0), _PIXELS),
    ]
    model.test_cfg['score_thr'] = float(fixture['paint_threshold'])
    label_map = model.predict(**data)[0].pred_sem_seg.data
    lines.append(compare('label_map', label_map, fixture['label_map'], 1e-3, outlier_share(0), _PIXELS))
    return lines


def _check_guided(crops: nn.Module, images: Tensor, fixture: Arrays) -> list[Line]:
    """Compare the tokens of masks in one pass a frame; text and weights are those of the classifier of crops."""
    tokens = guided_classifier(crops)
    masks = torch.from_numpy(fixture['guided/mask_logits'])
    embeds = tokens.embed_frames(images[: len(masks)], masks)
    logits = tokens.logit_scale * embeds @ crops.text_embeddings(class_names().names).T
    return [
        compare('guided/tokens', embeds, fixture['guided/tokens'], _EMBEDS),
        compare('guided/logits', logits, fixture['guided/logits'], _SIMILARITY),
    ]


def guided_classifier(crops: nn.Module) -> InstanceTokenClassifier:
    """The classifier of tokens with the weights of a classifier of crops."""
    clip = clip_config(crops.state_dict(), 'clip_model.')
    tokens = InstanceTokenClassifier(clip_model=clip, logit_scale=crops.logit_scale)
    tokens.load_state_dict(crops.state_dict())
    return tokens
