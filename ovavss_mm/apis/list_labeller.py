# SPDX-License-Identifier: Apache-2.0
"""Labels a list of videos: this process's share of them, as far as they are not complete."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.text import shorten
from .model_folder import KEYS
from .video.base import Source
from .video.clips import TABLE, read_clips, write_clips
from .video.many import Job, claimed, read_complete, share_jobs, stamps, summary_row, write_summary
from .video.progress import ListProgress
from .video.record import OutputOptions, Recorder
from .video.request import InferenceRequest
from .video.sources import open_source

if TYPE_CHECKING:
    from .inferencer import AVSegInferencer

BUSY = 'another process is labelling it'


class ListLabeller:
    """Labels the inputs of a call one after the other.

    Args:
        inferencer (AVSegInferencer): with the model.
        request (InferenceRequest): names and settings.
        options (OutputOptions): which outputs.
        skips (bool): whether an input that fails is left out; else its error is raised.
        audio_track (int): of the videos, see :func:`open_source`.
        resume (bool): whether complete videos, and those that another process holds, are left out.

    Raises:
        ValueError: ``resume`` without the JSON files that it reads, or with data samples; clips of other names than
            those that are looked for.
    """

    def __init__(
        self,
        inferencer: 'AVSegInferencer',
        request: InferenceRequest,
        options: OutputOptions,
        skips: bool,
        audio_track: int | None,
        resume: bool,
    ) -> None:
        if resume and (not options.pred or options.return_datasamples):
            raise ValueError('resume reads the JSON files in out_dir: it goes with out_dir, and without no_save_pred')
        if unknown := [name for name in options.clips if name not in request.vocabulary.names]:
            raise ValueError(f'clips must be of names that are looked for, got {shorten(map(repr, unknown))}')
        self.inferencer, self.request, self.options = inferencer, request, options
        self.skips, self.audio_track, self.resume = skips, audio_track, resume

    def __call__(self, inputs: Any) -> Iterator[tuple[Any, str | None]]:
        """Give of each input of this process the prediction, and the path of its mp4 or None."""

        def is_complete(job: Job) -> bool:
            return self._complete(job) is not None and self._has_clips(job)

        jobs, wanted, mine = share_jobs(inputs, self.options.out_dir, is_complete)
        rows = []
        with self._progress(jobs, wanted, mine) as progress:
            for index in mine:
                state, prediction, path = self._label(jobs[index], progress)
                said = prediction if isinstance(prediction, dict) else prediction.timeline
                rows.append(summary_row(jobs[index], state, said))
                progress.end_video(index)
                yield prediction, path
            if self.options.out_dir is not None and len(jobs) > 1:
                write_summary(self.options.out_dir, rows)  # waits for the other processes

    def _progress(self, jobs: list[Job], wanted: list[int], mine: list[int]) -> ListProgress:
        """Bars of the videos that are labelled now, by all processes."""
        frames = {i: max(1, round(jobs[i].seconds * self.request.fps)) for i in wanted}
        paths = {i: self.options.paths(jobs[i].name) for i in wanted if i not in set(mine)}
        others = {i: list(files.values())[-1] for i, files in paths.items() if files}
        return ListProgress(frames, others, disable=not self.inferencer.show_progress)

    # ------------------------------------------------------------------ a video
    def _label(self, job: Job, progress: ListProgress) -> tuple[str, Any, str | None]:
        """Label a video: what became of it, its prediction, and the path of its mp4 or None."""
        try:
            if self.options.out_dir is None:
                return 'labelled', *self._record(job, progress)
            with claimed(self.options.out_dir, job.name) as ours:
                if self.resume and not ours:
                    return 'busy', dict(video=job.video, busy=BUSY), None
                if (found := self._complete(job)) is not None:
                    if not self._has_clips(job):
                        self._cut(job, open_source(job.item, self.audio_track), found)
                    return 'complete', found, found['files'].get('video')
                return 'labelled', *self._record(job, progress)
        except (OSError, ValueError, RuntimeError, MemoryError) as error:  # such as out of the GPU's memory
            if not self.skips:
                raise
            return 'failed', dict(video=job.video, error=str(error)), None

    def _record(self, job: Job, progress: ListProgress) -> tuple[Any, str | None]:
        """Label a video and write its outputs."""
        source = open_source(job.item, self.audio_track)
        recorder = Recorder(source, self.request, self.options, job.name)
        header = self.inferencer.describe(source, self.request) | self._origin(job)
        prediction, path = recorder.record(self.inferencer.stream(source, self.request), header, progress)
        if self.options.clips:
            self._cut(job, source, prediction if isinstance(prediction, dict) else prediction.timeline)
        return prediction, path

    def _cut(self, job: Job, source: Source, prediction: dict) -> None:
        """Cut the wanted stretches out of a labelled video."""
        write_clips(self._clips(job), source, prediction, self.options.clips, self.options.pad)
        if 'files' in prediction:
            prediction['files']['clips'] = str(self._clips(job))

    # ------------------------------------------------------------------ what is there already
    def _origin(self, job: Job) -> dict[str, Any]:
        """The files that a prediction is made of, and which sound."""
        weights, folder = [str(self.inferencer.weights)] if self.inferencer.weights else [], self.inferencer.folder
        weights += [str(folder.path / name) for name in (*KEYS, *folder.files)] if folder else []
        paths = [path for path in (*job.files, *weights) if Path(path).exists()]
        return dict(inputs=stamps(paths), audio_track=self.audio_track)

    def _complete(self, job: Job) -> dict | None:
        """The prediction of an earlier call that need not be made again; what comes as arrays is not known again."""
        if not self.resume or not job.files:
            return None
        try:
            head = self.inferencer.settings(self.request) | self._origin(job)
        except OSError:  # it went meanwhile
            return None
        return read_complete(head, self.options.paths(job.name))

    def _clips(self, job: Job) -> Path:
        """The folder of its clips."""
        return Path(self.options.out_dir, 'clips', job.name)

    def _has_clips(self, job: Job) -> bool:
        """Whether the clips that are asked for are there, cut since it was labelled."""
        if not self.options.clips:
            return True
        wanted, table = {(name, self.options.pad) for name in self.options.clips}, self._clips(job) / TABLE
        labelled = self.options.paths(job.name)['json']
        return read_clips(table.parent) == wanted and table.stat().st_mtime_ns >= labelled.stat().st_mtime_ns
