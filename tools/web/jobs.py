# SPDX-License-Identifier: Apache-2.0
"""One job of the page: a video and names in, a labelled video and its timeline out."""

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress, TaskID

from ..inferencer import AVSegInferencer
from ..job import Job, Wanted
from ..outputs import safe_name
from ..sources import VIDEOS, VideoSource
from .limits import Limits, Refused
from .workspace import Ticket

# Called with the seconds that are labelled, of how many (None: not known), and how long it will take (None: not known).
Report = Callable[[float, float | None, float | None], None]


class Result(NamedTuple):
    """What a job gives.

    Attributes:
        video: path of the mp4.
        timeline: path of the JSON file.
        prediction: what is in it.
    """

    video: str
    timeline: str
    prediction: dict[str, Any]


class Labeller:
    """Runs jobs, one at a time.

    Args:
        inferencer: with the model.
        limits: of a job.
    """

    def __init__(self, inferencer: AVSegInferencer, limits: Limits) -> None:
        self.inferencer, self.limits = inferencer, limits
        self._lock = threading.Lock()

    def run(
        self, upload: str | None, text: str | None, folder: Path, ticket: Ticket, report: Report, **settings: Any
    ) -> Result:
        """Label a video.

        Args:
            upload: path of the video; None if none was given.
            text: names, as they were typed.
            folder: an empty one, for the results.
            ticket: by which the job can be stopped.
            report: is told how far the job is.
            settings: of :meth:`AVSegInferencer.make_request`: ``fps``, ``opacity``.

        Returns:
            The result; its files are in ``folder``, and nothing else is.

        Raises:
            Refused: the video, the names or the settings cannot be used.
            Cancelled: the job was told to stop.
        """
        ticket.check()
        names = self.limits.parse_names(text)
        if upload is None:
            raise Refused('Upload or record a video first.')
        shown = os.path.basename(upload)
        self.limits.check_file(upload, shown)
        path = _link(upload, folder)
        try:
            with self._lock:
                ticket.check()
                prediction = self._label(path, shown, names, folder, ticket, report, settings)
        except (OSError, ValueError) as error:
            if isinstance(error, Refused):
                raise
            # where the file lies is nobody's business
            message = str(error).replace(str(path), shown)
            raise Refused(message, video=message != str(error)) from error
        finally:
            path.unlink(missing_ok=True)
        return self._result(prediction, folder, shown)

    def _label(
        self,
        path: Path,
        shown: str,
        names: list[str],
        folder: Path,
        ticket: Ticket,
        report: Report,
        settings: dict[str, Any],
    ) -> dict[str, Any]:
        """Label the file; the mp4 is written."""
        source = VideoSource(str(path), name=shown)
        self.limits.check_source(source)
        request = self.inferencer.make_request(names, **settings)

        def watch(progress: 'Watch') -> None:
            ticket.check()
            task = progress.tasks[0]
            seconds, total = task.completed / request.fps, task.total
            self.limits.check_seconds(seconds, shown, seen=True)
            report(seconds, total and total / request.fps, task.time_remaining)

        wanted = Wanted(str(folder), pred=False)
        return Job(self.inferencer, source, request, wanted, 'labelled').run(Watch(watch))[0]

    @staticmethod
    def _result(prediction: dict[str, Any], folder: Path, shown: str) -> Result:
        """Put the files into the folder itself, under the name of the video."""
        stem = safe_name(Path(shown).stem or 'video')
        files = prediction.pop('files')
        video, timeline = (folder / f'{stem}_labelled{kind}' for kind in ('.mp4', '.json'))
        os.replace(files['video'], video)
        (folder / 'vis').rmdir()
        weights = prediction['weights'] and os.path.basename(prediction['weights'])
        prediction |= dict(video=shown, weights=weights)
        content = json.dumps(prediction, ensure_ascii=False, indent=1)
        timeline.write_text(content, encoding='utf-8', errors='backslashreplace')
        return Result(str(video), str(timeline), prediction)


class Watch(Progress):
    """A bar that is not shown, but tells of each step.

    Args:
        tell: is called with the bar after each step; what it raises ends the job.
    """

    def __init__(self, tell: Callable[['Watch'], None]) -> None:
        super().__init__(disable=True)
        self._tell = tell

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Take a step."""
        super().advance(task_id, advance)
        self._tell(self)


def _link(upload: str, folder: Path) -> Path:
    """The upload under a name of the job's own, so that it stays as long as the job needs it."""
    suffix = Path(upload).suffix.lower()
    path = folder / f'upload{suffix if suffix in VIDEOS else ""}'
    try:
        os.link(upload, path)
    except OSError:  # not every file system has links
        shutil.copyfile(upload, path)
    return path
