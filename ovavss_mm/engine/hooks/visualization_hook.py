# SPDX-License-Identifier: Apache-2.0
"""Draws clips while validating and testing."""

from collections.abc import Sequence

import numpy as np
from mmengine.dist import get_world_size
from mmengine.runner import Runner
from mmseg.engine.hooks import SegVisualizationHook
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from ...datasets.transforms.loading import read_rgb


def spread(total: int, count: int) -> list[int]:
    """Choose evenly spaced numbers, the first and the last among them.

    Args:
        total: numbers 0 to total - 1 are there to choose from.
        count: how many are wanted.

    Returns:
        At most ``count`` different numbers, ascending.
    """
    return sorted({int(i) for i in np.linspace(0, total - 1, min(total, count)).round()})


def read_frames(data_sample: SegDataSample, backend_args: dict | None = None) -> np.ndarray:
    """Read the frames that a data sample names, as the pipeline reads them.

    Args:
        data_sample: with ``frame_paths``, the T picture files, in its metainfo.
        backend_args: of mmengine's file backend; None to go by the path.

    Returns:
        uint8 RGB (T, H, W, 3).

    Raises:
        KeyError: if ``frame_paths`` is missing.
        OSError: if a file is no picture or a damaged one.
        ValueError: if the frames differ in size.
    """
    paths = data_sample.metainfo.get('frame_paths')
    if not paths:
        raise KeyError(
            f'clip {data_sample.metainfo.get("clip_id", "?")}: no frame_paths in the metainfo; '
            'put it into meta_keys of PackAVSegInputs'
        )
    frames = []
    for path in paths:
        frame = read_rgb(path, backend_args)
        if frames and frame.shape != frames[0].shape:
            raise ValueError(f'{path} has size {frame.shape[:2]}, {paths[0]} has {frames[0].shape[:2]}')
        frames.append(frame)
    return np.stack(frames)


@HOOKS.register_module()
class AVSegVisualizationHook(SegVisualizationHook):
    """Hands clips to the visualizer, while validating and testing.

    A test draws every ``interval``-th clip. So does a validation, unless ``val_clips`` is given: then
    the same few clips, evenly spread over the split, are drawn each time, so that one sees what the
    training changes. Each process counts the clips it sees itself, from the first one; only the main
    process draws.

    Args:
        draw: whether anything is drawn.
        interval: one clip in so many is drawn, at least 1.
        show: whether a window shows the sheets; nothing is stored then.
        wait_time: how long a window stays, in seconds.
        backend_args: of the file backend that reads the frames.
        val_clips: how many clips each validation draws (with several processes, of the main
            process's share); None goes by ``interval``.
    """

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        show: bool = False,
        wait_time: float = 0.0,
        backend_args: dict | None = None,
        val_clips: int | None = None,
    ) -> None:
        for key, value in dict(interval=interval, val_clips=val_clips).items():
            optional = key == 'val_clips' and value is None
            if not optional and (not isinstance(value, int) or value < 1):
                raise ValueError(f'{key} must be a positive integer, got {value!r}')
        super().__init__(draw, interval, show, wait_time, backend_args)
        self.val_clips = val_clips
        self._val_wanted: set[int] | None = None
        self._val_index = 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Start counting anew, and choose the clips.

        Args:
            runner: of the validation.
        """
        self._val_index = 0
        if self.draw and self.val_clips is not None:
            # Process r of n gets the clips r, r + n, r + 2n ...
            share = -(-len(runner.val_dataloader.dataset) // get_world_size())
            self._val_wanted = set(spread(share, self.val_clips))

    def before_test_epoch(self, runner: Runner) -> None:
        """Start counting anew.

        Args:
            runner: not used.
        """
        self._test_index = 0

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[SegDataSample]
    ) -> None:
        """Draw the clips that are due; the step of the pictures is the training iteration.

        Args:
            runner: of the validation.
            batch_idx: not used.
            data_batch: not used.
            outputs: the batch's data samples with predictions.
        """
        for data_sample in outputs:
            index, wanted = self._val_index, self._val_wanted
            if index in wanted if wanted is not None else index % self.interval == 0:
                when = f'iteration {runner.iter}'
                self._draw(data_sample, 'val', index, step=runner.iter, when=when)
            self._val_index += 1

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[SegDataSample]
    ) -> None:
        """Draw the clips that are due; the step of the pictures is the clip's number.

        Args:
            runner: of the test.
            batch_idx: not used.
            data_batch: not used.
            outputs: the batch's data samples with predictions.
        """
        for data_sample in outputs:
            if self._test_index % self.interval == 0:
                self._draw(data_sample, 'test', self._test_index, step=self._test_index)
            self._test_index += 1

    def _draw(self, data_sample: SegDataSample, stage: str, index: int, step: int, when: str = '') -> None:
        """Draw a clip, if anything is to be drawn."""
        if not self.draw:
            return
        clip = str(data_sample.metainfo.get('clip_id', index))
        self._visualizer.add_datasample(
            f'{stage}_{clip}',
            read_frames(data_sample, self.backend_args),
            data_sample=data_sample,
            show=self.show,
            wait_time=self.wait_time,
            step=step,
            title=f'{clip}, {when}' if when else clip,
        )
