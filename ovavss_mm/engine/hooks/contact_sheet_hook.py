# SPDX-License-Identifier: Apache-2.0
"""Leaves one picture of a test behind."""

import os.path as osp
from collections.abc import Sequence

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ...visualization.av_seg_visualizer import AVSegVisualizer, write_picture
from ...visualization.sheet import contact_sheet
from .visualization_hook import check_positive, read_frames, spread, spread_share, title_of


@HOOKS.register_module()
class ContactSheetHook(Hook):
    """Writes a contact sheet after a test: a few clips, truth and prediction, on one page.

    Clips are evenly spread over the test set (in a distributed test over the main process's share). Names are written
    on their masks; the legend says which are base and which novel. The visualizer must be an ``AVSegVisualizer``.

    Args:
        num_clips (int): how many clips the page shows. Defaults to 8.
        out_file (str): file name in the runner's work dir; the suffix says the format. Defaults to 'contact_sheet.png'.
        num_frames (int): how many frames of a clip are shown, evenly spread. Defaults to 3.
        num_columns (int): how many clips stand side by side. Defaults to 2.
    """

    def __init__(
        self, num_clips: int = 8, out_file: str = 'contact_sheet.png', num_frames: int = 3, num_columns: int = 2
    ) -> None:
        check_positive(num_clips=num_clips, num_frames=num_frames, num_columns=num_columns)
        self.num_clips, self.num_frames, self.num_columns = num_clips, num_frames, num_columns
        self.out_file = out_file

    def before_test_epoch(self, runner: Runner) -> None:
        """Choose the clips.

        Raises:
            TypeError: the visualizer cannot draw clips.
        """
        if not isinstance(runner.visualizer, AVSegVisualizer):
            raise TypeError(
                'ContactSheetHook needs visualizer=dict(type="AVSegVisualizer") in the config, '
                f'not {type(runner.visualizer).__name__}'
            )
        self._wanted = spread_share(runner.test_dataloader.dataset, self.num_clips) if is_main_process() else set()
        self._sheets: list[np.ndarray] = []
        self._index = 0

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence) -> None:
        """Draw the clips of a batch that were chosen."""
        for index, data_sample in enumerate(outputs, self._index):
            if index in self._wanted:
                image = read_frames(data_sample)
                title, frames = title_of(data_sample, index), spread(len(image), self.num_frames)
                sheet = runner.visualizer.draw_clip(image, data_sample, title=title, frames=frames, activity=False)
                self._sheets.append(sheet)
        self._index += len(outputs)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the page, in the main process."""
        if self._sheets:
            path = osp.join(runner.work_dir, self.out_file)
            write_picture(contact_sheet(self._sheets, self.num_columns), path)
            runner.logger.info(f'contact sheet of {len(self._sheets)} clips: {path}')
            self._sheets = []
