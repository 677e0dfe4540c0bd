# SPDX-License-Identifier: Apache-2.0
"""The model in small: a few thousand weights, all code paths of the configs."""

from copy import deepcopy
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

import ovavss_mm.models  # noqa: F401  (registers the model)

ROOT = Path(__file__).resolve().parents[1]
NAMES = ('dog', 'cat', 'bird')
SILENCE = -4.6052  # log-mel of no sound, log(0.01)

_ATTN = dict(embed_dims=32, num_heads=4)
_FFN = dict(embed_dims=32, feedforward_channels=32)
CLASSIFIER = dict(
    type='CLIPSquareCropClassifier',
    clip_model=dict(
        embed_dim=16,
        vision_cfg=dict(image_size=16, patch_size=8, width=32, layers=1, head_width=16),
        text_cfg=dict(context_length=24, vocab_size=1024, width=16, heads=1, layers=1),
    ),
    tokenizer=dict(bpe_path=str(ROOT / 'ovavss_mm/mini_world/clip_mini_bpe.txt.gz')),
    templates=['a {}.', 'the {}'],
)
SMALL = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8),
    audio_encoder=dict(_delete_=True, type='LogMelEncoder', channels=4, out_channels=16),
    neck=dict(
        in_channels=[8, 16, 32, 64],
        out_channels=32,
        audio_channels=16,
        norm_cfg=dict(num_groups=4),
        fusion=dict(embed_dims=32, num_heads=4),
    ),
    decode_head=dict(
        in_channels=[8, 32, 32, 32],
        feat_channels=32,
        out_channels=32,
        num_queries=6,
        audio_channels=16,
        pixel_decoder=dict(
            norm_cfg=dict(num_groups=4),
            encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=_ATTN, ffn_cfg=_FFN)),
            positional_encoding=dict(num_feats=16),
        ),
        transformer_decoder=dict(num_layers=4, layer_cfg=dict(self_attn_cfg=_ATTN, cross_attn_cfg=_ATTN, ffn_cfg=_FFN)),
        positional_encoding=dict(num_feats=16),
        criterion=dict(num_points=64),
    ),
    classifier=dict(CLASSIFIER, _delete_=True),
)


def tiny_config(**deltas) -> ConfigDict:
    """The R50 model's config with small numbers, and ``deltas`` on top."""
    config = Config.fromfile(ROOT / 'configs/_base_/models/ovavss_r50.py')
    for delta in (SMALL, deltas):
        config.merge_from_dict(dict(model=deepcopy(delta)))  # a copy, as `_delete_` is taken out
    return config.model


def draw_weights(module: nn.Module, scale: float = 0.1) -> nn.Module:
    """Move every weight off its start, where some are 0 and hide what stands behind them."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return module


def give_masks_edges(head: nn.Module) -> None:
    """Make per-pixel embeddings differ: drawn ones are nearly the same all over a frame."""
    with torch.no_grad():
        conv = head.pixel_decoder.mask_feature
        conv.weight -= conv.weight.mean(1, keepdim=True)  # what comes in is 0 or greater
        conv.weight *= 5
        conv.bias.zero_()


def tiny_model(**deltas) -> nn.Module:
    """A small model in evaluation mode with drawn weights."""
    return draw_weights(MODELS.build(tiny_config(**deltas))).eval()


def make_clip(frames: int = 5, size: tuple[int, int] = (64, 96), labels: Tensor | None = None):
    """A clip of noise: frames, log-mel patches and a sample, as the pipeline packs them.

    ``labels`` is the ground truth; None makes one of background and two names.
    """
    if labels is None:
        labels = torch.zeros(frames, *size, dtype=torch.uint8)
        labels[:, 4:30, 4:30] = 1
        labels[:, 10:36, 34:60] = 3
    sample = SegDataSample(metainfo=dict(vocabulary=NAMES, ori_shape=size, clip_id='noise'))
    sample.gt_sem_seg = PixelData(data=labels)
    imgs = torch.randint(0, 256, (frames, 3, *size), dtype=torch.uint8)
    return imgs, torch.randn(frames, 1, 96, 64) - 2, sample


def collate(clips: list[tuple]) -> dict:
    """What the data loader makes of clips; samples are copies."""
    imgs, audio, samples = zip(*clips, strict=True)
    return dict(inputs=dict(imgs=list(imgs), audio=list(audio)), data_samples=[sample.clone() for sample in samples])


def prepare(model: nn.Module, clips: list[tuple], training: bool = False) -> dict:
    """The keyword arguments of ``model.loss`` and ``model.predict``, in the model's dtype."""
    data = model.data_preprocessor(collate(clips), training)
    dtype = next(model.parameters()).dtype
    for key in ('imgs', 'audio'):
        data['inputs'][key] = [x.to(dtype) for x in data['inputs'][key]]
    return data


def same_points(*size: int, device: object = None) -> Tensor:
    """Stands in for ``torch.rand``: every row has the same numbers, whatever was drawn before."""
    draw = torch.empty(size[1:]).uniform_(generator=torch.Generator().manual_seed(0))
    return draw.expand(size).contiguous()
