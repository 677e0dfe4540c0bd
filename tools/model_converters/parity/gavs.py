# SPDX-License-Identifier: Apache-2.0
"""GAVS against the published one."""

import logging
import re
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from released.checkpoints import fit
from released.closed_set import VGGISH
from released.gavs import convert_sam, sam_config
from torch import Tensor, nn

from ovavss_mm.datasets.avsbench_tasks import SOUNDING
from ovavss_mm.datasets.transforms.geometry import ResizeClip
from ovavss_mm.evaluation import AVSBinaryMetric
from ovavss_mm.models.losses.sounding_object_loss import frame_bce
from ovavss_mm.models.skeleton import build_skeleton

from .common import Arrays, Line, Shapes, compare, draw_state, model_config, register

CONFIG = 'gavs/gavs_sam-vit-b_release.py'
_BOUNDS = dict(block=1e-4, image=1e-4, audio=1e-5)
_BLOCK = re.compile(r'.*blocks\.(\d+)\.adapter_v\.')


@register('gavs', state_dict='state_dict_gavs.json')
def check_gavs(fixture: Arrays, shapes: Shapes) -> list[Line]:
    """Compare what the network gives for the frames as they were resized there and here, and what trains."""
    model, names = build_model(fixture, shapes)
    return check_model(model, fixture, names)


def build_model(fixture: Arrays, shapes: Shapes) -> tuple[nn.Module, dict[str, str]]:
    """Build the released model with drawn weights, by way of a published checkpoint; it takes embeddings of sound.

    Returns:
        tuple: the model in evaluation mode, its SAM as small as the fixture's; published names to ours.

    Raises:
        ValueError: the names or shapes do not fit the config.
    """
    state = draw_state(shapes, int(fixture['seed']))
    config = model_config(CONFIG)
    config.update(sam=sam_config(state), init_cfg=None)
    # nothing else in a fixture tells the first block with an adapter that runs
    config.tune_v = min(int(match[1]) for match in map(_BLOCK.match, fixture['trainable']) if match)
    config.data_preprocessor.size_divisor = config.sam.vision_config.image_size
    config.audio_encoder.init_cfg = None
    conversion = convert_sam(state)
    state = fit(conversion, build_skeleton(config), VGGISH, CONFIG)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config)
    bad = model.load_state_dict(state, strict=False)
    if bad.unexpected_keys or not all(key.startswith('audio_encoder.') for key in bad.missing_keys):
        raise ValueError(f'{CONFIG} was not filled: {bad}')
    return model.eval(), conversion.mapped


def check_model(model: nn.Module, fixture: Arrays, names: dict[str, str]) -> list[Line]:
    """Compare a model with the fixture."""
    side = model.sam.model.config.vision_config.image_size
    frames = fixture['images'].transpose(0, 2, 3, 1)  # (T, H, W, 3)
    ours = ResizeClip(side, max_size=side)(dict(imgs=frames))['imgs'].transpose(0, 3, 1, 2)
    lines = [compare('resized', ours, fixture['resized'], 1)]
    for key, value in network_outputs(model, fixture['resized'], fixture).items():
        kind = key.split('_')[0]
        lines.append(compare(key, _kept(value, fixture[key]), fixture[key], _BOUNDS.get(kind, 1e-3)))
    outputs = network_outputs(model, ours, fixture)
    for key in ('low_res_masks', 'masks'):
        lines.append(compare(f'{key}, resized here', _kept(outputs[key], fixture[key]), fixture[key], 5e-3))
    return lines + compare_training(model, fixture, names) + compare_figures(model, fixture)


def _kept(ours: Tensor, theirs: np.ndarray) -> Tensor:
    """The first of each axis, as many as were kept."""
    return ours[tuple(slice(n) for n in theirs.shape)]


def prepare(model: nn.Module, imgs: np.ndarray, fixture: Arrays) -> dict:
    """A clip with its labels as training and testing get it."""
    sample = SegDataSample(metainfo=dict(ori_shape=fixture['images'].shape[-2:], vocabulary=(SOUNDING,)))
    sample.gt_sem_seg = PixelData(data=torch.from_numpy(fixture['target']))
    inputs = dict(imgs=[torch.tensor(imgs)], audio=[torch.from_numpy(fixture['audio'])])
    return model.data_preprocessor(dict(inputs=inputs, data_samples=[sample]), training=True)


@torch.no_grad()
def network_outputs(model: nn.Module, imgs: np.ndarray, fixture: Arrays) -> dict[str, Tensor]:
    """Outputs by the fixture's names, for frames (T, 3, h, w)."""
    data, sam = prepare(model, imgs, fixture), model.sam.model
    with recorded(sam) as found:
        maps, prompts = model.extract_feat(data['inputs']['imgs'][0], data['inputs']['audio'][0])
        masks = model.sam.decode(maps, prompts)
    found |= dict(image_embeddings=maps, audio_prompt=prompts[:, 0], low_res_masks=masks)
    call = dict(
        image_embeddings=maps,
        image_positional_embeddings=sam.get_image_wide_positional_embeddings(),
        sparse_prompt_embeddings=prompts[:, None],
        dense_prompt_embeddings=sam.prompt_encoder.no_mask_embed.weight[..., None, None],
    )
    more = [sam.mask_decoder(**call, multimask_output=several) for several in (False, True)]
    more, ious = (torch.cat(parts, 2)[:, 0] for parts in zip(*more, strict=True))
    found |= dict(low_res_masks=torch.cat([masks, more[:, 1:]], 1), iou_predictions=ious)
    return found | dict(masks=model.predict(**data)[0].seg_logits.data)


@contextmanager
def recorded(sam: nn.Module) -> dict[str, Tensor]:
    """Within, maps after each encoder block and tokens after each decoder layer are noted."""
    found = {}

    def note(name: str, pick: Callable) -> Callable:
        return lambda module, args, output: found.update({name: pick(output)})

    handles = [
        block.register_forward_hook(note(f'block_{i}', lambda x: x.permute(0, 3, 1, 2)))
        for i, block in enumerate(sam.vision_encoder.layers)
    ] + [
        layer.register_forward_hook(note(f'tokens_{i}', lambda x: x[0][:, 0]))
        for i, layer in enumerate(sam.mask_decoder.transformer.layers)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def compare_training(model: nn.Module, fixture: Arrays, names: dict[str, str]) -> list[Line]:
    """Compare losses, what trains, and the norms of gradients; no noise is added."""
    data = prepare(model, fixture['resized'], fixture)
    noise, model.prompt_noise = model.prompt_noise, 'none'
    model.train().zero_grad()
    loss = model.loss(**data)['loss_mask']
    loss.backward()
    model.eval().prompt_noise = noise
    lines = [compare('loss', loss, fixture['loss'], 1e-5)]
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    wanted = [names[key] for key in fixture['trainable']]
    lines.append(compare('trainable', len(set(wanted) ^ set(grads)), np.array(0), 0, unit='keys in one list only'))
    norms = np.array([float(grads[name].norm()) if name in grads else np.nan for name in wanted])
    return [*lines, compare('grad_norm', norms / fixture['grad_norm'], np.ones(len(norms)), 1e-3, unit='relative')]


@torch.no_grad()
def compare_figures(model: nn.Module, fixture: Arrays) -> list[Line]:
    """Compare the losses of single frames, and the figures of the clip as GAVS's authors count them."""
    sample = model.predict(**prepare(model, fixture['resized'], fixture))[0]
    losses = frame_bce(sample.seg_logits.data, torch.from_numpy(fixture['target']))
    logging.disable(logging.WARNING)  # the metric logs its figures
    try:
        metric = AVSBinaryMetric(thresholds=(0.4,))
        metric.process({}, [sample.to_dict()])
        figures = metric.evaluate(1)
    finally:
        logging.disable(logging.NOTSET)
    pairs = dict(miou='J_video@0.4', f_score='F_video')
    lines = [compare(key, figures[name] / 100, fixture[key], 1e-4) for key, name in pairs.items()]
    return [compare('loss_frames', losses, fixture['loss_frames'], 1e-5), *lines]
