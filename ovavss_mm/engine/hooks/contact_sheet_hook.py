# SPDX-License-Identifier: Apache-2.0
"""Leaves one picture of a test behind."""

import os.path as osp
from collections.abc import Sequence

import numpy as np
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from ...visualization.av_seg_visualizer import AVSegVisualizer, write_picture
from ...visualization.sheet import contact_sheet
from .visualization_hook import read_frames, spread


@HOOKS.register_module()
class ContactSheetHook(Hook):
    """Writes a contact sheet after a test: a few clips, truth and prediction, on one page.

    Clips are evenly spread over the test set (in a distributed test over the main process's share).
    Names are written on their masks; the legend says which are base and which novel. The visualizer
    must be an ``AVSegVisualizer``.

    Args:
        num_clips: how many clips the page shows.
        out_file: file name in the runner's working directory; the suffix says the format.
        num_frames: how many frames of a clip are shown, evenly spread.
        num_columns: how many clips stand side by side.
        backend_args: of the file backend that reads the frames.
    """

    def __init__(
        self,
        num_clips: int = 8,
        out_file: str = 'contact_sheet.png',
        num_frames: int = 3,
        num_columns: int = 2,
        backend_args: dict | None = None,
    ) -> None:
        for key, value in dict(num_clips=num_clips, num_frames=num_frames, num_columns=num_columns).items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f'{key} must be a positive integer, got {value!r}')
        self.num_clips = num_clips
        self.out_file = out_file
        self.num_frames = num_frames
        self.num_columns = num_columns
        self.backend_args = backend_args
        self._wanted: set[int] = set()
        self._sheets: list[np.ndarray] = []
        self._index = 0

    def before_test_epoch(self, runner: Runner) -> None:
        """Choose the clips.

        Args:
            runner: of the test.

        Raises:
            TypeError: if the visualizer cannot draw clips.
        """
        if not isinstance(runner.visualizer, AVSegVisualizer):
            raise TypeError(
                'ContactSheetHook needs visualizer=dict(type="AVSegVisualizer") in the config, '
                f'not {type(runner.visualizer).__name__}'
            )
        # Process r of n gets the clips r, r + n, r + 2n ...
        share = -(-len(runner.test_dataloader.dataset) // get_world_size())
        self._wanted = set(spread(share, self.num_clips)) if is_main_process() else set()
        self._sheets, self._index = [], 0

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[SegDataSample]
    ) -> None:
        """Draw the clips of a batch that were chosen.

        Args:
            runner: of the test.
            batch_idx: not used.
            data_batch: not used.
            outputs: the batch's data samples with predictions.
        """
        for data_sample in outputs:
            if self._index in self._wanted:
                image = read_frames(data_sample, self.backend_args)
                sheet = runner.visualizer.draw_clip(
                    image,
                    data_sample,
                    title=str(data_sample.metainfo.get('clip_id', self._index)),
                    frames=spread(len(image), self.num_frames),
                    activity=False,
                )
                self._sheets.append(sheet)
            self._index += 1

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the page, in the main process.

        Args:
            runner: of the test.
            metrics: not used.
        """
        if not self._sheets:
            return
        path = osp.join(runner.work_dir, self.out_file)
        write_picture(contact_sheet(self._sheets, self.num_columns), path)
        runner.logger.info(f'contact sheet of {len(self._sheets)} clips: {path}')
        self._sheets = []
