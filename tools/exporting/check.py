# SPDX-License-Identifier: Apache-2.0
"""Compares an exported model with the one that it was made of: label maps, and time."""

import statistics
import time
from collections.abc import Iterator
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ovavss_mm.apis import AVSegInferencer
from ovavss_mm.mini_world.drawing import render_pictures
from ovavss_mm.mini_world.names import NAMES
from ovavss_mm.mini_world.sound import render_sound
from ovavss_mm.mini_world.video import video_scenes
from ovavss_mm.models import ExportedSegmentor

SIZES = ((96, 128), (160, 96), (64, 224))  # height and width of frames in pixels
LENGTHS = (1, 5, 7)  # frames
LABELLED = 5  # queries of each clip that are named: those with the highest sound scores
TIMED = (360, 480, 5)
REPEATS = 3


class Equality(NamedTuple):
    """How far label maps of both agree: height, width and frames of a clip, and shares of its pixels."""

    size: tuple[int, int, int]
    equal: float
    labelled: float


class Speed(NamedTuple):
    """Seconds of a part, alternating: of the model and of what was exported."""

    part: str
    eager: list[float]
    exported: list[float]

    def ratio(self) -> tuple[float, float, float]:
        """How many times as fast the exported one is: median, least, greatest."""
        ratios = [a / b for a, b in zip(self.eager, self.exported, strict=True)]
        return statistics.median(ratios), min(ratios), max(ratios)


class Subject:
    """A model whose thresholds let every clip have a label map, whatever its weights.

    Args:
        model (nn.Module): in evaluation mode.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        model.test_cfg = dict(model.test_cfg, mode='whole', score_thr=0.0)

    def localize(self, clip: dict[str, Any]) -> InstanceData:
        """Queries of a clip."""
        inputs = self.model.data_preprocessor(clip)['inputs']
        if isinstance(self.model, ExportedSegmentor):
            return self.model.localize(inputs['imgs'][0], inputs['audio'][0])
        return self.model.encode_decode(inputs)[0]

    def label(self, clip: dict[str, Any], sound_thr: float) -> Tensor:
        """Label map (T, h, w) of the queries whose sound score is above a threshold."""
        self.model.classifier.sound_thr = sound_thr
        return self.model.test_step(clip)[0].pred_sem_seg.data


class ProgramSubject(Subject):
    """The model with programs of PyTorch in place of its parts.

    Args:
        model (nn.Module): the one that was exported.
        folder (str | Path): of its programs, ``NAME.pt2``.
    """

    def __init__(self, model: nn.Module, folder: str | Path) -> None:
        super().__init__(model)
        # written a moment ago by this process: `torch.export.load` is not for files of others
        # without the guards of the example that it was exported with: what is compared are all sizes
        self.programs = {
            path.stem: torch.export.load(path).module(check_guards=False) for path in Path(folder).glob('*.pt2')
        }

    def _run(self, inputs: dict[str, list[Tensor]], metas: object = None) -> list[InstanceData]:
        """In place of ``encode_decode``."""
        parts = zip(inputs['imgs'], inputs['audio'], strict=True)
        return [InstanceData(**self.programs['localize'](*part)) for part in parts]

    def _embed(self, frames: Tensor, index: Tensor, masks: Tensor) -> Tensor:
        """In place of ``embed_crops``."""
        text = torch.zeros(1, self.model.classifier.text_channels)
        return self.programs['name'](frames, masks, index, text)['embeddings']

    def localize(self, clip: dict[str, Any]) -> InstanceData:
        """See the base class."""
        return self._run(self.model.data_preprocessor(clip)['inputs'])[0]

    def label(self, clip: dict[str, Any], sound_thr: float) -> Tensor:
        """See the base class."""
        with patch.object(self.model, 'encode_decode', self._run):
            with patch.object(self.model.classifier, 'embed_crops', self._embed):
                return super().label(clip, sound_thr)


def make_clip(inferencer: AVSegInferencer, size: tuple[int, int], length: int, seed: int) -> dict[str, Any]:
    """A clip of the mini world of T seconds at a size, and its names, as the data preprocessor takes it."""
    scene = next(video_scenes(length, seed))
    pictures = np.stack([cv2.resize(picture, size[::-1]) for picture in render_pictures(scene)[0]])  # (T, h, w, 3)
    rows = inferencer.front_ends['audio'](render_sound(scene), length)
    sample = SegDataSample(metainfo=dict(vocabulary=NAMES, ori_shape=size))
    inputs = dict(imgs=[torch.from_numpy(pictures).permute(0, 3, 1, 2)], audio=[torch.from_numpy(rows)])
    return dict(inputs=inputs, data_samples=[sample])


def threshold(queries: InstanceData, count: int = LABELLED) -> float:
    """A sound score that ``count`` queries are above, between two scores."""
    best = queries.scores.sort(descending=True).values
    return float(best[count - 1 : count + 1].mean()) if len(best) > count else 0.0


@torch.no_grad()
def compare(inferencer: AVSegInferencer, exported: Subject) -> Iterator[Equality]:
    """Compare label maps over sizes and lengths."""
    eager = Subject(inferencer.model)
    for seed, (size, length) in enumerate(product(SIZES, LENGTHS)):
        clip = make_clip(inferencer, size, length, seed)
        thr = threshold(eager.localize(deepcopy(clip)))
        expected = eager.label(deepcopy(clip), thr)
        equal = expected == exported.label(clip, thr)
        yield Equality((*size, length), float(equal.float().mean()), float((expected > 0).float().mean()))


@torch.no_grad()
def measure(inferencer: AVSegInferencer, exported: Subject) -> list[Speed]:
    """Time localising and whole label maps of a clip, alternating, after a first run of each."""
    eager = Subject(inferencer.model)
    clip = make_clip(inferencer, TIMED[:2], TIMED[2], 0)
    thr = threshold(eager.localize(deepcopy(clip)))
    parts = dict(localizing=lambda s: s.localize(deepcopy(clip)), whole=lambda s: s.label(deepcopy(clip), thr))
    speeds = []
    for part, run in parts.items():
        seconds = {eager: [], exported: []}
        for _ in range(REPEATS + 1):
            for subject, times in seconds.items():
                start = time.perf_counter()
                run(subject)
                times.append(time.perf_counter() - start)
        speeds.append(Speed(part, *(times[1:] for times in seconds.values())))
    return speeds
