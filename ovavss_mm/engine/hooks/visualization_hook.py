# SPDX-License-Identifier: Apache-2.0
"""Draws clips while validating and testing."""

from collections.abc import Sequence

import mmcv
import numpy as np
from mmengine.fileio import get
from mmengine.runner import Runner
from mmseg.engine.hooks import SegVisualizationHook
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample


def read_frames(data_sample: SegDataSample, backend_args: dict | None = None) -> np.ndarray:
    """Read the frames that a data sample names.

    Args:
        data_sample: with ``frame_paths``, the T picture files, in its metainfo.
        backend_args: of mmengine's file backend; None to go by the path.

    Returns:
        uint8 RGB (T, H, W, 3).

    Raises:
        KeyError: if ``frame_paths`` is missing.
        ValueError: if a file is no picture, or the frames differ in size.
    """
    paths = data_sample.metainfo.get('frame_paths')
    if not paths:
        raise KeyError(
            f'clip {data_sample.metainfo.get("clip_id", "?")}: no frame_paths in the metainfo; '
            'put it into meta_keys of PackAVSegInputs'
        )
    frames = []
    for path in paths:
        frame = mmcv.imfrombytes(get(path, backend_args=backend_args))
        if frame is None:
            raise ValueError(f'{path} is not a readable picture')
        if frames and frame.shape != frames[0].shape:
            raise ValueError(
                f'{path} has size {frame.shape[:2]}, {paths[0]} has {frames[0].shape[:2]}'
            )
        frames.append(mmcv.bgr2rgb(frame))
    return np.stack(frames)


@HOOKS.register_module()
class AVSegVisualizationHook(SegVisualizationHook):
    """Hands every ``interval``-th clip to the visualizer, while validating and testing.

    Each process counts the clips it sees itself, from the first one; only the main process draws.

    Args:
        draw: whether anything is drawn.
        interval: one clip in so many is drawn, at least 1.
        show: whether a window shows the sheets; nothing is stored then.
        wait_time: how long a window stays, in seconds.
        backend_args: of the file backend that reads the frames.
    """

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        show: bool = False,
        wait_time: float = 0.0,
        backend_args: dict | None = None,
    ) -> None:
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(f'interval must be a positive integer, got {interval!r}')
        super().__init__(draw, interval, show, wait_time, backend_args)
        self._val_index = 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Start counting anew.

        Args:
            runner: not used.
        """
        self._val_index = 0

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
            self._draw(data_sample, 'val', self._val_index, runner.iter)
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
            self._draw(data_sample, 'test', self._test_index, self._test_index)
            self._test_index += 1

    def _draw(self, data_sample: SegDataSample, stage: str, index: int, step: int) -> None:
        """Draw a clip if it is due."""
        if not self.draw or index % self.interval:
            return
        clip = data_sample.metainfo.get('clip_id', index)
        self._visualizer.add_datasample(
            f'{stage}_{clip}',
            read_frames(data_sample, self.backend_args),
            data_sample=data_sample,
            show=self.show,
            wait_time=self.wait_time,
            step=step,
        )
