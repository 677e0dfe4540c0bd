# SPDX-License-Identifier: Apache-2.0
"""The mini config of GAVS with drawn weights, and clips for it."""

import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tiny_model import ROOT, draw_weights
from torch import Tensor, nn

CONFIG = ROOT / 'configs/mini/gavs_mini_s4.py'
SIDE = 128


def tiny_gavs(**deltas: object) -> nn.Module:
    """The mini model in evaluation mode, of other values where ``deltas`` of its config have some."""
    config = Config.fromfile(CONFIG)
    config.merge_from_dict(dict(model=dict(init_cfg=None)))
    config.model.update(deltas)
    torch.manual_seed(0)
    return draw_weights(MODELS.build(config.model), 0.1).eval()


def make_clip(frames: int = 3, size: tuple[int, int] = (30, 40), labels: Tensor | None = None, row: int = 1) -> tuple:
    """Frames as the pipeline resizes them, log-mel patches, and a sample with labels (T, H, W) of the size before."""
    scale = SIDE / max(size)
    shape = tuple(round(x * scale) for x in size)
    if labels is None:
        labels = torch.zeros(frames, *size, dtype=torch.uint8)
        labels[:, 4:20, 4:20] = row
    sample = SegDataSample(metainfo=dict(vocabulary=('sounding',), ori_shape=size, clip_id='noise'))
    sample.gt_sem_seg = PixelData(data=labels)
    imgs = torch.randint(0, 256, (frames, 3, *shape), dtype=torch.uint8)
    return imgs, torch.randn(frames, 1, 96, 64) - 2, sample
