# SPDX-License-Identifier: Apache-2.0
"""Draws clips while validating and testing."""

from collections.abc import Sequence, Sized
from typing import Any

import numpy as np
from mmengine.dist import get_world_size
from mmengine.runner import Runner
from mmseg.engine.hooks import SegVisualizationHook
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from ...datasets.transforms.loading import LoadClipFrames


def check_positive(**numbers: Any) -> None:
    """Raise a ValueError that names the first argument that is no positive integer."""
    for key, value in numbers.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f'{key} must be a positive integer, got {value!r}')


def spread(total: int, count: int) -> list[int]:
    """Choose at most ``count`` evenly spaced numbers of 0 to total - 1, the first and the last among them."""
    return sorted({int(i) for i in np.linspace(0, total - 1, min(total, count)).round()})


def spread_share(dataset: Sized, count: int) -> set[int]:
    """Choose evenly spaced clips of the main process's share: the clips 0, n, 2n ... for n processes."""
    return set(spread(-(-len(dataset) // get_world_size()), count))


def read_frames(data_sample: SegDataSample) -> np.ndarray:
    """Read the frames that a data sample names with ``frame_paths`` in its metainfo, as the pipeline reads them.

    Returns:
        np.ndarray: uint8 RGB (T, H, W, 3).

    Raises:
        KeyError: ``frame_paths`` is missing.
        OSError: a file is no picture or a damaged one.
        ValueError: the frames differ in size.
    """
    paths = data_sample.metainfo.get('frame_paths')
    if not paths:
        clip = data_sample.metainfo.get('clip_id', '?')
        raise KeyError(f'clip {clip}: no frame_paths in the metainfo; put it into meta_keys of PackAVSegInputs')
    return LoadClipFrames().transform(dict(frame_paths=paths, num_frames=len(paths)))['imgs']


def title_of(data_sample: SegDataSample, index: int) -> str:
    """Name of a clip, else its number, with the sound that was put in place of its own."""
    clip, sound = (data_sample.metainfo.get(key) for key in ('clip_id', 'sound'))
    return str(clip or index) + ('' if sound in (None, 'own') else f', sound: {sound}')


@HOOKS.register_module()
class AVSegVisualizationHook(SegVisualizationHook):
    """Hands clips to the visualizer, while validating and testing.

    Each process counts the clips it sees itself, from the first one; only the main process draws.

    Args:
        draw (bool): whether anything is drawn. Defaults to False.
        interval (int): one clip in so many is drawn. Defaults to 50.
        show (bool): whether a window shows the sheets; nothing is stored then. Defaults to False.
        wait_time (float): how long a window stays, in seconds. Defaults to 0.
        val_clips (int, optional): how many clips each validation draws (with several processes, of the main process's
            share): the same, evenly spread over the split, so that one sees what the training changes. Defaults to
            None, which goes by ``interval``.
    """

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        show: bool = False,
        wait_time: float = 0.0,
        val_clips: int | None = None,
    ) -> None:
        check_positive(interval=interval, val_clips=1 if val_clips is None else val_clips)
        super().__init__(draw, interval, show, wait_time)
        self.val_clips = val_clips
        self._wanted: set[int] | None = None  # None: each interval-th
        self._index = 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Start counting anew, and choose the clips."""
        self._index, self._wanted = 0, None
        if self.draw and self.val_clips is not None:
            self._wanted = spread_share(runner.val_dataloader.dataset, self.val_clips)

    def before_test_epoch(self, runner: Runner) -> None:
        """Start counting anew."""
        self._index, self._wanted = 0, None

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence) -> None:
        """Draw the clips that are due; the step of the pictures is the training iteration."""
        self._draw('val', outputs, runner.iter)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence) -> None:
        """Draw the clips that are due; the step of the pictures is the clip's number."""
        self._draw('test', outputs)

    def _draw(self, stage: str, outputs: Sequence[SegDataSample], iteration: int | None = None) -> None:
        """Draw the clips of a batch that are due."""
        for index, data_sample in enumerate(outputs, self._index):
            if not self.draw or (index % self.interval if self._wanted is None else index not in self._wanted):
                continue
            clip, title = str(data_sample.metainfo.get('clip_id', index)), title_of(data_sample, index)
            self._visualizer.add_datasample(
                f'{stage}_{clip}',
                read_frames(data_sample),
                data_sample=data_sample,
                show=self.show,
                wait_time=self.wait_time,
                step=index if iteration is None else iteration,
                title=title if iteration is None else f'{title}, iteration {iteration}',
            )
        self._index += len(outputs)
