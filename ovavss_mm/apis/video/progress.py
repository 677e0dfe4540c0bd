# SPDX-License-Identifier: Apache-2.0
"""The progress of a list of videos, with the time left."""

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from mmengine.dist import get_rank
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class ListProgress(Progress):
    """A bar of the video that is being labelled; with several videos one of all before it, of all processes.

    The first process shows it. What others have done is seen by the files that appear.

    Args:
        frames (Mapping[int, int]): by index of a video, how many labelled frames it will have.
        others (Mapping[int, Path]): of the videos of other processes, by index, a file that appears when one is
            complete.
        disable (bool): whether nothing is shown.
    """

    def __init__(self, frames: Mapping[int, int], others: Mapping[int, Path], disable: bool) -> None:
        self._frames, self._done, self._looked = frames, 0, 0.0
        self._others = {index: (path, _written(path)) for index, path in others.items()}
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn('frames'), TimeRemainingColumn())
        super().__init__(TextColumn('{task.description}'), *columns, disable=disable or get_rank() > 0)
        self._all = self.add_task(f'all {len(frames)} videos', total=sum(frames.values())) if len(frames) > 1 else None

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Advance the bar of a video, and that of all."""
        super().advance(task_id, advance)
        if self._all is not None:
            super().advance(self._all, advance)

    def end_video(self, index: int) -> None:
        """Take the bar of a video away, and put that of all where the videos that ended say."""
        if self._all is None:
            return
        self._done += self._frames.get(index, 0)  # none of one that was complete before
        for task in self.task_ids:
            if task != self._all:
                self.remove_task(task)
        self.update(self._all, completed=self._done)

    def get_renderables(self) -> Iterable[RenderableType]:
        """What is shown; looks for the videos of other processes once a second."""
        if self._others and time.monotonic() > self._looked + 1:
            self._looked = time.monotonic()
            self.see_others()
        return super().get_renderables()

    def see_others(self) -> None:
        """Advance the bar of all by the videos that other processes have completed."""
        for index in [i for i, (path, before) in self._others.items() if _written(path) != before]:
            del self._others[index]
            self._done += self._frames[index]
            super().advance(self._all, self._frames[index])


def _written(path: Path) -> int | None:
    """When a file was written, None if it is not there."""
    with suppress(OSError):
        return path.stat().st_mtime_ns
    return None
