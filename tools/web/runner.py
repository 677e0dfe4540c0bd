# SPDX-License-Identifier: Apache-2.0
"""Runs uploads through the inferencer, one at a time, and keeps the files of each browser tab or HTTP job."""

import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress

from ovavss_mm.apis import AVSegInferencer
from ovavss_mm.apis.video.listing import VIDEOS, safe_name
from ovavss_mm.apis.video.outputs import LabelPictures
from ovavss_mm.apis.video.record import OutputOptions, Recorder
from ovavss_mm.apis.video.request import InferenceRequest, LabelledFrame
from ovavss_mm.apis.video.video_source import VideoSource

from .limits import InputError, Limits, QueueFullError, parse_names

PREFIX = 'ovavss_web_'  # of the temporary folder
EXAMPLE_FOLDER = 'example'
LABELS = 'labels'  # folder of the label maps in that of a job
# Called with the seconds that are labelled, of how many (None: not known), and the time left (None: not known).
Report = Callable[[float, float | None, float | None], None]
POLL = 0.1  # s, how often a job that waits looks whether it was told to stop


class Cancelled(Exception):
    """Raised in a job that was told to stop."""


class CancelToken(threading.Event):
    """Lets one job be stopped from outside, at its next frame, by ``set()``."""

    def check(self) -> None:
        """Raise :class:`Cancelled` if the job was told to stop."""
        if self.is_set():
            raise Cancelled


class Line:
    """The one queue: the job that runs, and behind it those that wait, in the order in which they came.

    Args:
        size (int): jobs that may wait.

    Raises:
        ValueError: the size is not above 0.
    """

    def __init__(self, size: int) -> None:
        if not isinstance(size, int) or size < 1:
            raise ValueError(f'queue must be a whole number above 0, got {size!r}')
        self.size = size
        self._jobs: list[object] = []
        self._changed = threading.Condition()

    def check_room(self) -> None:
        """Raise QueueFullError if no other job may wait."""
        if len(self._jobs) > self.size:  # the first one runs
            raise QueueFullError(self.size)

    @contextmanager
    def turn(self, token: CancelToken, waits: Callable[[int], None] = lambda _: None) -> Iterator[None]:
        """Wait for the turn, which lasts as long as the block.

        Args:
            token (CancelToken): of the job.
            waits (Callable): called with the number of jobs before this one, whenever it changes.

        Raises:
            QueueFullError: too many jobs wait.
            Cancelled: the job was told to stop while it waited.
        """
        job, told = object(), 0
        with self._changed:
            self.check_room()
            self._jobs.append(job)
        try:
            with self._changed:
                while before := self._jobs.index(job):
                    token.check()
                    if before != told:
                        waits(told := before)
                    self._changed.wait(POLL)
            token.check()
            yield
        finally:
            with self._changed:
                self._jobs.remove(job)
                self._changed.notify_all()


@dataclass
class Session:
    """What a browser tab or HTTP job holds: the token and the folder of its last job, and the upload that it shows."""

    token: CancelToken = field(default_factory=CancelToken)
    folder: Path | None = None
    upload: Path | None = None

    def drop_folder(self) -> None:
        """Remove the folder of the last job."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None


class Result(NamedTuple):
    """What a job gives: paths of the mp4 and the JSON file, the content of the latter, and the zip of label maps."""

    video: str
    timeline: str
    prediction: dict[str, Any]
    labels: str | None = None


class DemoRunner:
    """Runs the jobs; at the end of its ``with`` block all temporary files, below ``root``, go.

    Args:
        inferencer (AVSegInferencer): labels the videos.
        limits (Limits): of the videos.
        queue (int): jobs that may wait, at least 1. Defaults to 10.
    """

    def __init__(self, inferencer: AVSegInferencer, limits: Limits, queue: int = 10) -> None:
        self.inferencer, self.limits, self.line = inferencer, limits, Line(queue)
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
        self._lock = threading.RLock()  # of the sessions
        self._sessions: dict[str, Session] = {}

    def __enter__(self) -> 'DemoRunner':
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def stop(self) -> None:
        """Tell all jobs to stop."""
        for session in list(self._sessions.values()):
            session.token.set()

    # ------------------------------------------------------------------ sessions
    def session(self, name: str, new_job: bool = False) -> Session:
        """The session of a name; with ``new_job``, the last job and its files are forgotten."""
        with self._lock:
            session = self._sessions.setdefault(name, Session())
            if new_job:
                session.token = CancelToken()
                session.drop_folder()
            return session

    def hold_upload(self, name: str, path: str | None) -> None:
        """Note which upload a session shows, and remove the one that it showed before."""
        with self._lock:
            session = self.session(name)
            before, session.upload = session.upload, None
            if path is not None and self._is_upload(Path(path).resolve()):
                session.upload = Path(path).resolve()
            shown = [other.upload for other in self._sessions.values()]
            if before is not None and before not in shown:  # tabs may share an upload
                shutil.rmtree(before.parent, ignore_errors=True)

    def close(self, name: str) -> None:
        """The session ends: stop its job, remove its files."""
        with self._lock:
            self.session(name).token.set()
            self.session(name).drop_folder()
            self.hold_upload(name, None)
            del self._sessions[name]

    def _is_upload(self, path: Path) -> bool:
        """Whether a file lies in a folder of its own that an upload made."""
        folder = path.parent
        known = folder.name == EXAMPLE_FOLDER or folder.name.startswith('job_')
        return folder.parent == self.root and not known

    # ------------------------------------------------------------------ jobs
    def run(
        self,
        name: str,
        upload: str | None,
        text: str | None,
        report: Report,
        waits: Callable[[int], None] = lambda _: None,
        labels: bool = False,
        **settings: Any,
    ) -> Result:
        """Segment an uploaded video.

        The result's files stay until the session's next job, or its end.

        Args:
            name (str): of the session.
            upload (str): path of the video; None: there is none yet.
            text (str): class names as they were typed.
            report (Callable): told how far the job is.
            waits (Callable): told how many jobs are before this one.
            labels (bool): whether the result has the label maps, too. Defaults to False.
            **settings: of the inferencer.

        Raises:
            InputError: the video, the names or the settings cannot be used.
            QueueFullError: too many jobs wait.
            Cancelled: the job was told to stop.
        """
        session = self.session(name)
        session.drop_folder()
        session.folder = folder = Path(tempfile.mkdtemp(prefix='job_', dir=self.root))
        try:
            return self._run(session, upload, text, report, waits, labels, settings)
        except BaseException as error:
            session.drop_folder()
            shutil.rmtree(folder, ignore_errors=True)  # the session may have ended while files were written
            if isinstance(error, InputError) and error.video:
                self.hold_upload(name, None)
            raise

    def _run(
        self,
        session: Session,
        upload: str | None,
        text: str | None,
        report: Report,
        waits: Callable[[int], None],
        labels: bool,
        settings: dict[str, Any],
    ) -> Result:
        """Segment a video into the session's folder."""
        token, folder = session.token, session.folder
        token.check()
        names = parse_names(text)
        if upload is None:
            raise InputError('Upload or record a video first.')
        shown = os.path.basename(upload)
        self.limits.check_file(upload, shown)
        path = _link(upload, folder)
        try:
            with self.line.turn(token, waits):
                source = VideoSource(str(path), name=shown)
                self.limits.check_source(source)
                request = self.inferencer.make_request(names, **settings)
                frames = self._watched(source, request, token, report)
                if labels:
                    frames = _kept(frames, LabelPictures(folder / LABELS, request.palette))
                options = OutputOptions(str(folder), no_save_pred=True)
                header = self.inferencer.describe(source, request)
                recorder = Recorder(source, request, options, 'labelled')
                prediction, _ = recorder.record(frames, header, Progress(disable=True))
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            message = str(error).replace(str(path), shown)  # do not leak server paths
            raise InputError(message, video=message != str(error)) from error
        finally:
            path.unlink(missing_ok=True)
        return _result(prediction, folder, shown)

    def _watched(
        self, source: VideoSource, request: InferenceRequest, token: CancelToken, report: Report
    ) -> Iterator[LabelledFrame]:
        """Labelled frames, counted: what a file says of its length is a claim."""
        begun, total = time.monotonic(), source.duration
        for number, frame in enumerate(self.inferencer.stream(source, request), 1):
            token.check()
            seconds = number / request.fps
            self.limits.check_seconds(seconds, source.name, seen=True)
            pace = (time.monotonic() - begun) / seconds
            report(seconds, total, None if total is None else pace * max(0.0, total - seconds))
            yield frame


def _link(upload: str, folder: Path) -> Path:
    """The upload under a name of the job's own, so that it stays as long as the job needs it."""
    suffix = Path(upload).suffix.lower()
    path = folder / f'upload{suffix if suffix in VIDEOS else ""}'
    try:
        os.link(upload, path)
    except OSError:  # not every file system has links
        shutil.copyfile(upload, path)
    return path


def _kept(frames: Iterator[LabelledFrame], pictures: LabelPictures) -> Iterator[LabelledFrame]:
    """Write the label maps of frames that pass."""
    for frame in frames:
        pictures.write(frame.time, frame.label_map)
        yield frame


def _result(prediction: dict[str, Any], folder: Path, shown: str) -> Result:
    """Put the files into the folder itself, under the name of the video."""
    stem = safe_name(Path(shown).stem or 'video')
    video, timeline = (folder / f'{stem}_labelled{kind}' for kind in ('.mp4', '.json'))
    os.replace(prediction.pop('files')['video'], video)
    (folder / 'vis').rmdir()
    weights = prediction['weights'] and os.path.basename(prediction['weights'])
    prediction |= dict(video=shown, weights=weights)
    content = json.dumps(prediction, ensure_ascii=False, indent=1)
    timeline.write_text(content, encoding='utf-8', errors='backslashreplace')
    labels = None
    if (folder / LABELS).is_dir():
        labels = shutil.make_archive(str(folder / f'{stem}_labels'), 'zip', folder / LABELS)
        shutil.rmtree(folder / LABELS)
    return Result(str(video), str(timeline), prediction, labels)
