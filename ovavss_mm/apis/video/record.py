# SPDX-License-Identifier: Apache-2.0
"""Records the labelled frames of one source: files, timeline, notes and the prediction that is returned."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from mmseg.structures import SegDataSample
from rich.markup import escape
from rich.progress import Progress

from ...exports import Exports, Origin, check_formats, export_paths
from ...utils.text import shorten
from ...visualization.fonts import unreadable
from .base import Source, frames_at, pictures_at
from .outputs import LabelPictures, Outputs, TimelineFile
from .overlay import Overlay, OverlayVideo
from .request import InferenceRequest, LabelledFrame
from .timeline import ClassTimeline


@dataclass
class OutputOptions:
    """Which outputs a call wants.

    Args:
        out_dir (str): folder of the files. None, the default, writes none.
        no_save_vis (bool): whether to write no mp4. Defaults to False.
        no_save_pred (bool): whether to write no label maps and timeline. Defaults to False.
        return_datasamples (bool): whether to return all label maps as a data sample. Defaults to False.
        show (bool): whether to show labelled frames in a window. Defaults to False.
        wait_time (float): how long each is shown, in seconds. Defaults to 0.001.
        export (Sequence[str]): formats of other tools to write, of ``ovavss_mm.exports.FORMATS``. Defaults to none.
        clips (Sequence[str]): class names whose stretches are cut out of the video. Defaults to none.
        pad (float): seconds that are kept before and after a stretch, 0 to 3600. Defaults to 0.

    Raises:
        ValueError: a format that is not known, exports or clips without a folder, or a pad out of range.
    """

    out_dir: str | None = None
    no_save_vis: bool = False
    no_save_pred: bool = False
    return_datasamples: bool = False
    show: bool = False
    wait_time: float = 0.001
    export: Sequence[str] = ()
    clips: Sequence[str] = ()
    pad: float = 0.0

    def __post_init__(self) -> None:
        self.export = check_formats(self.export)
        for key in ('export', 'clips'):
            if getattr(self, key) and self.out_dir is None:
                raise ValueError(f'{key} {list(getattr(self, key))} needs out_dir (--out-dir), the folder of its files')
        if not 0 <= self.pad <= 3600:
            raise ValueError(f'pad must be from 0 to 3600 seconds, got {self.pad!r}')

    def paths(self, name: str) -> dict[str, Path]:
        """What is written of a video, by kind; the one that appears last is the last."""
        vis = dict(video=Path(self.out_dir, 'vis', f'{name}.mp4')) if self.vis else {}
        exports = export_paths(self.export, self.out_dir, name) if self.export else {}
        folder = Path(self.out_dir or '', 'pred')
        pred = dict(labels=folder / name, json=folder / f'{name}.json') if self.pred else {}
        return vis | exports | pred

    @property
    def vis(self) -> bool:
        """Whether the mp4 is written."""
        return self.out_dir is not None and not self.no_save_vis

    @property
    def pred(self) -> bool:
        """Whether label maps and timeline are written."""
        return self.out_dir is not None and not self.no_save_pred


class Recorder:
    """Writes and returns what is wanted of one source's labelled frames.

    Args:
        source (Source): of frames and sound.
        request (InferenceRequest): class names and settings.
        options (OutputOptions): which outputs.
        name (str): of the outputs.
    """

    def __init__(self, source: Source, request: InferenceRequest, options: OutputOptions, name: str) -> None:
        self.source, self.request, self.options, self.name = source, request, options, name
        self.notes: list[str] = []
        self.records: list[dict] = []
        self.maps: list[np.ndarray] = []
        self.files = {kind: str(path) for kind, path in options.paths(name).items()}  # final names
        self.video: OverlayVideo | None = None
        self.labels: LabelPictures | None = None
        self.json: TimelineFile | None = None
        self.exports: Exports | None = None
        self.timeline = ClassTimeline(request.vocabulary, request.fps)

    def record(
        self, frames: Iterable[LabelledFrame], header: dict[str, Any], progress: Progress
    ) -> tuple[Any, str | None]:
        """Take all labelled frames.

        Args:
            frames (Iterable[LabelledFrame]): in order of time, ``request.fps`` per second.
            header (dict): what the prediction says of the source and the model.
            progress (Progress): where a bar is shown.

        Returns:
            tuple: the prediction, a dict or a data sample; and the path of the mp4 or None.

        Raises:
            OSError: a file cannot be written.
            ValueError: the source cannot be decoded or written.
        """
        source, options = self.source, self.options
        for note in source.notes:
            self._note(note)
        if source.sound is None and self.request.with_audio:
            self._note(f'{source.name} has no sound: it is taken as silence')
        if options.vis and (names := unreadable(self.request.vocabulary)):
            self._note(
                f'no font here has the letters of {shorten(map(repr, names))}: boxes are drawn in their place in the '
                'labelled video; install a font that has them, such as those of the Noto family (Debian: '
                'fonts-noto-core, fonts-noto-cjk)'
            )
        try:
            with Outputs() as outputs:
                self._open(outputs, header)
                self._write_all(self._shown(frames) if options.show else frames, progress)
                footer = self._footer()
                if self.exports is not None:
                    for note in self.exports.finish(footer):
                        self._note(f'{self.source.name}: {note}')
                if self.json is not None:
                    self.json.finish(footer)
        except av.FFmpegError as error:
            raise ValueError(f'{source.name} cannot be labelled: {error.strerror}') from error
        footer |= dict(files=self.files) if self.files else {}
        if options.return_datasamples:
            return self._sample(footer), self.files.get('video')
        records = {} if options.pred else dict(frames=self.records)
        return dict(header, **footer, **records), self.files.get('video')

    def _open(self, outputs: Outputs, header: dict) -> None:
        """Open the writers."""
        request, options = self.request, self.options
        if options.vis:
            path = outputs.add(self.files['video'])
            self.video = outputs.closing(OverlayVideo(path, self.source, request))
        if options.export:
            self.exports = self._open_exports(outputs)
        if options.pred:
            self.labels = LabelPictures(outputs.add(self.files['labels']), request.palette)
            # added last: where it is, the others are of the same call
            path = outputs.add(self.files['json'])
            self.json = outputs.closing(TimelineFile(path, header))

    def _open_exports(self, outputs: Outputs) -> Exports:
        """Open the writers of other formats."""
        source, request = self.source, self.request
        origin = Origin(self.name, getattr(source, 'path', None), source.size, request.fps, source.rate)
        paths = export_paths(self.options.export, self.options.out_dir, self.name)
        paths = {kind: outputs.add(path) for kind, path in paths.items()}
        return Exports(paths, origin, request.vocabulary, pictures_at(source, request.fps), outputs.closing)

    def _write_all(self, frames: Iterable[LabelledFrame], progress: Progress) -> None:
        """Hand all labelled frames to the writers."""
        total, last = self.source.duration, None
        total = None if total is None else max(1, round(total * self.request.fps))
        task = progress.add_task(escape(self.name), total=total)
        for last in frames:
            self._write(last)
            progress.advance(task)
        if self.video is not None and last is not None:
            self.video.write(last, None)
        progress.update(task, total=self.timeline.num_frames)

    def _write(self, frame: LabelledFrame) -> None:
        """Hand a labelled frame to the writers."""
        record = self.timeline.add(frame.time, frame.found, frame.objects)
        if self.options.pred:
            self.json.write(record)
            self.labels.write(frame.time, frame.label_map)
        else:
            self.records.append(record)
        if self.options.return_datasamples:
            self.maps.append(frame.label_map)
        if self.video is not None:
            self.video.write(frame, frame.time + 1 / self.request.fps)
        if self.exports is not None:
            self.exports.write(frame)

    def _shown(self, frames: Iterable[LabelledFrame]) -> Iterator[LabelledFrame]:
        """Pass frames on and show them in a window."""
        window, pictures = Visualizer(), frames_at(self.source, self.request.fps)
        for frame, (_, rgb) in zip(frames, pictures, strict=False):
            picture = Overlay.of_frame(frame, self.request).over(rgb)
            window.show(picture, self.name, wait_time=self.options.wait_time)
            yield frame

    def _footer(self) -> dict[str, Any]:
        """What is known at the end; notes on what was odd."""
        fps, source = self.request.fps, self.source
        duration = self.timeline.num_frames / fps
        if source.duration is not None:
            duration = min(duration, source.duration)
        if source.damage:
            self._note(f'{source.name} is damaged or incomplete: {source.damage}')
        if source.sound is not None and self.request.with_audio:
            self._note_sound(duration)
        return dict(
            num_frames=self.timeline.num_frames,
            duration=round(duration, 4),
            names=self.timeline.summary(duration),
            objects=self.timeline.objects(duration),
            silent=self.timeline.silent(duration),
            notes=self.notes,
        )

    def _note_sound(self, duration: float) -> None:
        """Note what was odd with the sound."""
        sound, name = self.source.sound, self.source.name
        if sound.damage:
            self._note(f'{name}: {sound.damage}')
        if sound.cancelled > 0.5:
            self._note(
                f'the channels of the sound of {name} cancel each other out for {sound.cancelled:.1f} s, as where one '
                'is wired the wrong way round: there only the first one is heard'
            )
        if sound.seconds <= 0:
            self._note(f'the sound of {name} has no samples: it is taken as silence')
        elif sound.seconds < duration - 0.5:
            self._note(
                f'the sound of {name} ends at {sound.seconds:.2f} s, its picture at {duration:.2f} s: '
                'silence from there on'
            )

    def _sample(self, footer: dict[str, Any]) -> SegDataSample:
        """All label maps as one data sample."""
        sample = SegDataSample(
            metainfo=dict(
                clip_id=self.name,
                vocabulary=self.request.vocabulary.names,
                palette=self.request.palette.tolist(),
                ori_shape=tuple(self.source.size),
                times=[i / self.request.fps for i in range(len(self.maps))],
                timeline=footer,
            )
        )
        sample.pred_sem_seg = PixelData(data=torch.from_numpy(np.stack(self.maps)))
        return sample

    def _note(self, message: str) -> None:
        """Warn, and keep the message for the prediction."""
        warnings.warn(message, stacklevel=3)
        self.notes.append(message)
