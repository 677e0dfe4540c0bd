# SPDX-License-Identifier: Apache-2.0
"""The network of OV-AVSS and its classifier against the published ones."""

from collections.abc import Callable

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from released.checkpoints import CLIP, clip_config, fit
from released.keys import convert
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ovavss_mm.models.segmentors.label_map import best_pairs, resize_masks
from ovavss_mm.models.skeleton import build_skeleton

from .common import Arrays, Line, Shapes, class_names, compare, draw_state, model_config, outlier_share, register

R50, SWIN = 'ovavss/ovavss_r50_release.py', 'ovavss/ovavss_swin-b_release.py'
_TIE = 1e-3  # scores that are closer may come in another order


def build_model(path: str, shapes: Shapes, seed: int, fixture: Arrays | None = None) -> nn.Module:
    """Build a model with drawn weights, by way of a published checkpoint.

    Args:
        path (str): of the config, below ``configs/``; the CLIP is that of ``shapes``.
        shapes (Mapping[str, Sequence[int]]): published names to shapes.
        seed (int): of the fixture.
        fixture (Mapping[str, np.ndarray], optional): see :func:`draw_state`. Defaults to None.

    Returns:
        nn.Module: the model in evaluation mode.

    Raises:
        ValueError: the names or shapes do not fit the config.
    """
    config = model_config(path)
    state = draw_state(shapes, seed, fixture)
    if config.audio_encoder:
        config.audio_encoder.init_cfg = None
    config.classifier.update(clip_model=clip_config(state), init_cfg=None)
    state = fit(convert(state), build_skeleton(config), what=path)
    return _load(config, state)


def build_classifier(path: str, shapes: Shapes, seed: int) -> nn.Module:
    """Build the classifier of a model, as :func:`build_model` does."""
    state = draw_state({k: shape for k, shape in shapes.items() if k.startswith(CLIP)}, seed)
    config = model_config(path).classifier
    config.update(clip_model=clip_config(state), init_cfg=None)
    state = {k.removeprefix('classifier.'): value for k, value in convert(state).state.items()}
    return _load(config, state)


def _load(config: ConfigDict, state: dict[str, Tensor]) -> nn.Module:
    """Build a module with given weights."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        module = MODELS.build(config)
    module.load_state_dict(state, strict=True)
    return module.eval()


def _inputs(model: nn.Module, fixture: Arrays, names: tuple[str, ...] = ()) -> dict:
    """The fixture's clip as the model takes it."""
    clip = dict(imgs=[torch.from_numpy(fixture['images'])], audio=[torch.from_numpy(fixture['audio'])])
    sample = SegDataSample(metainfo=dict(vocabulary=names))
    return model.data_preprocessor(dict(inputs=clip, data_samples=[sample]))


@torch.no_grad()
def check_network(model: nn.Module, fixture: Arrays) -> list[Line]:
    """Compare what each stage of the network gives, of maps the first channels."""
    inputs = _inputs(model, fixture)['inputs']
    imgs, audio = inputs['imgs'][0], inputs['audio'][0]
    maps = {f'feat_res{i}': x for i, x in enumerate(model.backbone(imgs), start=2)}
    feats, fused = model.extract_feat(imgs[None], audio[None])
    maps['mask_features'], levels = model.decode_head.pixel_decoder(feats)
    maps.update({f'ms_{i}': x for i, x in enumerate(levels)})
    queries = model.decode_head((feats, fused))
    outputs = {name: (maps[name][:, : x.shape[1]], 1e-4) for name, x in fixture.items() if name in maps}
    outputs['audio_fused'] = fused[0], 1e-4
    outputs['pred_logits'] = queries.sound_logits[-1], 1e-3
    for i in (0, 4, 8):
        outputs[f'aux{i}_logits'] = queries.sound_logits[i], 1e-3
        outputs[f'aux{i}_masks_mean'] = queries.masks(i).mean((-2, -1)), 5e-3
    lines = [compare(name, ours, fixture[name], bound) for name, (ours, bound) in outputs.items() if name in fixture]
    if 'pred_masks' in fixture:
        masks = queries.masks(), fixture['pred_masks']
        largest = compare('pred_masks', *masks, 5e-3).difference
        unit = f'share of pixels that differ by over 5e-3 (largest difference {largest:.1e})'
        lines.append(compare('pred_masks', *masks, 1e-3, outlier_share(5e-3), unit))
    return lines


@torch.no_grad()
def check_classifier(classifier: nn.Module, fixture: Arrays) -> list[Line]:
    """Compare crops and embeddings."""
    masks = torch.from_numpy(fixture['masks'].astype(np.float32))  # (T, M, H, W)
    valid = (masks > 0.5).flatten(2).any(-1)
    lines = [compare('valid', valid, fixture['valid'], 0)]
    frame, mask = torch.from_numpy(fixture['valid']).nonzero(as_tuple=True)
    crops = classifier.crop(torch.from_numpy(fixture['frames']), frame, masks[frame, mask])
    lines.append(compare('regions', crops, fixture['regions'], 1e-2))
    images, text = classifier.encode(crops), classifier.text_embeddings(class_names().names)
    lines.append(compare('image_embeds', images, fixture['image_embeds'], 1e-4))
    lines.append(compare('text_embeds', text, fixture['text_embeds'], 1e-4))
    similarity = classifier.logit_scale * images @ text.T
    lines.append(compare('similarity', similarity, fixture['similarity'], 1e-2))
    return lines


@torch.no_grad()
def check_inference(model: nn.Module, fixture: Arrays) -> list[Line]:
    """Compare the best pairs of query and class name, and the label map."""
    names = class_names().names
    data = _inputs(model, fixture, names)
    frames, sample = data['inputs']['frames'][0], data['data_samples'][0]
    queries = model.decode_head.predict(
        model.extract_feat(data['inputs']['imgs'][0][None], data['inputs']['audio'][0][None])
    )[0]
    named = model.classifier(frames, queries, names, sample.pad_shape)
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
    lines.append(compare('label_map', label_map, fixture['label_map'], 1e-3, outlier_share(0), unit))
    return lines


def _compare_masks(ours: Tensor, theirs: np.ndarray) -> Line:
    """Compare masks in any order: each of theirs with another of ours, as they fit best."""
    name, bound, unit = 'masks, best pairing', 1e-3, 'share of pixels that differ'
    ours = ours.numpy()
    if ours.shape[1:] != theirs.shape[1:] or len(ours) < len(theirs):
        return Line(name, theirs.shape, float('inf'), bound, f'ours has shape {ours.shape}')
    differ = np.array([[np.mean(a != b) for b in ours] for a in theirs])
    return Line(name, theirs.shape, float(differ[linear_sum_assignment(differ)].mean()), bound, unit)


def _register(name: str, path: str, build: Callable, check: Callable) -> None:
    """Register fixtures that are compared with a model of drawn weights."""

    @register(name, state_dict=f'state_dict_{"swinb" if path == SWIN else "r50"}.json')
    def run(fixture: Arrays, shapes: Shapes) -> list[Line]:
        return check(build(path, shapes, int(fixture['seed'])), fixture)


_register('clip', R50, build_classifier, check_classifier)
for _name, _path in (('r50', R50), ('swinb', SWIN)):
    _register(_name, _path, build_model, check_network)
    _register(f'e2e_{_name}', _path, build_model, check_inference)
