# SPDX-License-Identifier: Apache-2.0
"""What a step is given: clips of the config's own data, or made-up ones of any size."""

import os.path as osp
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.structures import PixelData
from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn import functional as F

from ..launch import iter_datasets

NUM_TARGETS = 3
MAX_LABELLED = 254  # label maps are uint8, 255 is 'not annotated'
_FEATURES = 'LoadClipAudioFeatures'
_FEATURE_CHANNELS = 128


class Shape(NamedTuple):
    """Sizes of made-up clips.

    Attributes:
        height: H, in pixels.
        width: W, in pixels.
        frames: T.
        names: N.
        batch: B.
    """

    height: int
    width: int
    frames: int
    names: int
    batch: int = 1


def default_size(pipeline: Sequence[dict]) -> tuple[int, int]:
    """Height and width that a pipeline makes of frames of 16:9, for the middle one of its short sides.

    The width is a multiple of 32 pixels.
    """
    sides = [step['short_side'] for step in pipeline if step['type'].endswith('ResizeClip')]
    sides = sides[0] if sides else 360
    side = sorted(sides)[len(sides) // 2] if isinstance(sides, (list, tuple)) else sides
    return side, max(1, round(side * 16 / 9 / 32)) * 32


def default_frames(pipeline: Sequence[dict], window: int) -> int:
    """T that a pipeline samples; where it takes all frames, T of a window."""
    frames = [s['num_frames'] for s in pipeline if s['type'].endswith('SampleClipFrames')]
    return frames[0] if frames and frames[0] else window


def seed_all(seed: int = 0) -> None:
    """Seed everything that transforms and models draw from: each step then does the same work."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def open_dataset(config: dict, mode: str) -> object | None:
    """The data set of a config, or None if there is none on this machine.

    Args:
        config: the whole config.
        mode: 'train' or 'test', which of its data loaders.
    """
    loader = config.get(f'{mode}_dataloader') or {}
    roots = [dataset['data_root'] for dataset in iter_datasets(loader)]
    if not roots or not all(osp.isdir(root) for root in roots):
        return None
    return DATASETS.build(loader['dataset'])


def fetch(dataset: Any, batch: int) -> dict:
    """The first clips of a data set through its pipeline, with the same draws whenever it is called."""
    seed_all()
    return pseudo_collate([dataset[i % len(dataset)] for i in range(batch)])


def made_up_names(count: int) -> tuple[str, ...]:
    """N names that mean nothing."""
    return tuple(f'thing {i}' for i in range(count))


def make_batch(shape: Shape, pipeline: Sequence[dict], labelled: bool = True) -> dict:
    """Clips as the data loader gives them, with random but smooth frames and up to three objects.

    Args:
        shape: of the clips.
        pipeline: of the config, which says whether the model gets log-mel patches or embeddings.
        labelled: whether there is ``gt_sem_seg``.

    Returns:
        ``inputs`` with ``imgs``, B of uint8 (T, 3, H, W), and ``audio``, B of float32 (T, 1, 96, 64) or
        (T, 128), and ``data_samples``, with N names as vocabulary and ``ori_shape`` (H, W).
    """
    features = any(step['type'].endswith(_FEATURES) for step in pipeline)
    generator = torch.Generator().manual_seed(0)
    imgs = [smooth_frames(shape, generator) for _ in range(shape.batch)]
    sizes = (shape.frames, _FEATURE_CHANNELS) if features else (shape.frames, 1, 96, 64)
    audio = [torch.randn(sizes, generator=generator) for _ in imgs]
    audio = [a.relu() if features else a - 2 for a in audio]
    samples = [_sample(shape, index, labelled) for index in range(shape.batch)]
    return dict(inputs=dict(imgs=imgs, audio=audio), data_samples=samples)


def smooth_frames(shape: Shape, generator: torch.Generator) -> Tensor:
    """Frames (T, 3, H, W) uint8 of blots of colour and a little noise."""
    size = (shape.frames, 3, shape.height, shape.width)
    blots = 255 * torch.rand(shape.frames, 3, 6, 8, generator=generator)
    frames = F.interpolate(blots, size=size[2:], mode='bilinear', align_corners=False)
    return (frames + 8 * torch.randn(size, generator=generator)).clamp(0, 255).to(torch.uint8)


def label_maps(shape: Shape) -> Tensor:
    """Label maps (T, H, W) uint8: discs that move, one of each of the first three names."""
    y, x = torch.meshgrid(torch.linspace(0, 1, shape.height), torch.linspace(0, 1, shape.width), indexing='ij')
    maps = torch.zeros(shape.frames, shape.height, shape.width, dtype=torch.uint8)
    for index in range(min(NUM_TARGETS, shape.names)):
        for t in range(shape.frames):
            centre = (0.2 + 0.3 * index, 0.3 + 0.4 * t / max(1, shape.frames - 1))
            maps[t][(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < 0.14**2] = index + 1
    return maps


def _sample(shape: Shape, index: int, labelled: bool) -> SegDataSample:
    """The sample of a made-up clip."""
    sample = SegDataSample(
        metainfo=dict(
            clip_id=f'made-up-{index}', vocabulary=made_up_names(shape.names), ori_shape=(shape.height, shape.width)
        )
    )
    if labelled:
        sample.gt_sem_seg = PixelData(data=label_maps(shape))
    return sample


def copier(batch: dict) -> Callable[[], dict]:
    """A function that copies a batch: models write into samples."""

    def copy() -> dict:
        inputs = {key: list(clips) for key, clips in batch['inputs'].items()}
        return dict(inputs=inputs, data_samples=[s.clone() for s in batch['data_samples']])

    return copy


def shape_of(batch: dict) -> Shape:
    """Sizes of a batch; of its first clip, where clips differ."""
    frames, _, height, width = batch['inputs']['imgs'][0].shape
    names = len(batch['data_samples'][0].get('vocabulary', ()))
    return Shape(height, width, frames, names, len(batch['inputs']['imgs']))
