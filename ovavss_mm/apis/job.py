# SPDX-License-Identifier: Apache-2.0
"""One input on its way through the model into its outputs."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from rich.markup import escape
from rich.progress import Progress

from .outputs import LabelPictures, Outputs, OverlayVideo, TimelineFile, safe_name
from .request import LabelledFrame, Request
from .sound import SoundReader
from .sources import Source, frames_at
from .timeline import Timeline

if TYPE_CHECKING:
    from .inferencer import AVSegInferencer


@dataclass
class Wanted:
    """Which outputs a call wants.

    Args:
        out_dir: folder of the files; None for none.
        vis: whether the mp4 is written.
        pred: whether label maps and timeline are written.
        samples: whether all label maps are returned.
        show: how long a window shows each labelled frame, in seconds; None for no window.
    """

    out_dir: str | None = None
    vis: bool = True
    pred: bool = True
    samples: bool = False
    show: float | None = None

    def __post_init__(self) -> None:
        """Without a folder, nothing is written."""
        self.vis &= self.out_dir is not None
        self.pred &= self.out_dir is not None


class Job:
    """Labels one source and writes what is wanted of it.

    Args:
        inferencer: with the model.
        source: of frames and sound.
        request: names and settings.
        wanted: the outputs.
        name: of the outputs.
    """

    def __init__(
        self, inferencer: 'AVSegInferencer', source: Source, request: Request, wanted: Wanted, name: str
    ) -> None:
        self.inferencer, self.source, self.request = inferencer, source, request
        self.wanted, self.name = wanted, name
        self.notes: list[str] = []
        self.records: list[dict] = []
        self.maps: list[np.ndarray] = []
        self.writers: dict[str, Any] = {}
        names = request.vocabulary.names
        self.timeline = Timeline(names, request.fps)

    def run(self, progress: Progress) -> tuple[Any, str | None]:
        """Label the source.

        Args:
            progress: where a bar is shown.

        Returns:
            The prediction, and the path of the mp4 or None.

        Raises:
            ValueError: the source cannot be read, or what it says of itself cannot be written.
        """
        try:
            return self._run(progress)
        except av.FFmpegError as error:
            raise ValueError(f'{self.source.name} cannot be labelled: {error.strerror}') from error

    def _run(self, progress: Progress) -> tuple[Any, str | None]:
        """Label the source."""
        source, fps = self.source, self.request.fps
        total = None if source.duration is None else max(1, round(source.duration * fps))
        task = progress.add_task(escape(self.name), total=total)
        header = self.inferencer.postprocess(source, request=self.request)
        reader = SoundReader(source.sound)
        if source.sound is None:
            self._note(f'{source.name} has no sound: it is taken as silence')
        with Outputs() as outputs:
            files = self._open(outputs, header)
            frames = self._shown(self.inferencer.stream(source, self.request, reader))
            last = None
            for last in frames:
                self._write(last)
                progress.advance(task)
            if 'video' in self.writers and last is not None:
                self.writers['video'].write(last.label_map, None)
            progress.update(task, total=self.timeline.num_frames)
            footer = self._footer(reader)
            if 'json' in self.writers:
                self.writers['json'].finish(footer)
        footer |= dict(files=files) if files else {}
        prediction = self._sample(footer) if self.wanted.samples else dict(header, **footer)
        if not self.wanted.samples and not self.wanted.pred:
            prediction['frames'] = self.records
        return prediction, files.get('video')

    def _open(self, outputs: Outputs, header: dict) -> dict[str, str]:
        """Open the writers; returns the final names."""
        files: dict[str, str] = {}
        if self.wanted.out_dir is None:
            return files
        vis, pred = (Path(self.wanted.out_dir, kind) for kind in ('vis', 'pred'))
        names, palette = self.request.vocabulary.names, self.request.palette
        if self.wanted.vis:
            files['video'] = str(vis / f'{self.name}.mp4')
            self.writers['video'] = outputs.closing(
                OverlayVideo(outputs.add(files['video']), self.source, names, palette, self.request.opacity)
            )
        if self.wanted.pred:
            files['labels'] = str(pred / self.name)
            self.writers['labels'] = outputs.closing(LabelPictures(outputs.add(files['labels']), palette))
            files['json'] = str(pred / f'{self.name}.json')
            self.writers['json'] = outputs.closing(TimelineFile(outputs.add(files['json']), header))
        return files

    def _write(self, frame: LabelledFrame) -> None:
        """Hand a labelled frame to the writers."""
        record = self.timeline.add(frame.time, frame.found)
        if 'json' in self.writers:
            self.writers['json'].write(record)
            self.writers['labels'].write(frame.time, frame.label_map)
        else:
            self.records.append(record)
        if self.wanted.samples:
            self.maps.append(frame.label_map)
        if 'video' in self.writers:
            self.writers['video'].write(frame.label_map, frame.time + 1 / self.request.fps)

    def _shown(self, frames: Iterator[LabelledFrame]) -> Iterator[LabelledFrame]:
        """Pass frames on, showing them in a window if that is wanted."""
        if self.wanted.show is None:
            yield from frames
            return
        pictures = frames_at(self.source, self.request.fps)
        for frame, (_, rgb) in zip(frames, pictures, strict=False):
            picture = self.inferencer.visualize(rgb, frame, self.request)
            self.inferencer.visualizer.show(picture, self.name, wait_time=self.wanted.show)
            yield frame

    def _footer(self, reader: SoundReader) -> dict[str, Any]:
        """What is known at the end; notes on what was odd."""
        fps, source = self.request.fps, self.source
        duration = self.timeline.num_frames / fps
        if source.duration is not None and not source.damage:
            duration = min(duration, max(source.duration, 1 / fps))
        if source.damage:
            self._note(f'{source.name} is damaged or incomplete: {source.damage}')
        if reader.damage:
            self._note(f'{source.name}: {reader.damage}')
        if source.sound is not None and reader.end <= 0:
            self._note(f'the sound of {source.name} has no samples: it is taken as silence')
        elif source.sound is not None and reader.seconds < duration - 0.5:
            self._note(
                f'the sound of {source.name} ends at {reader.seconds:.2f} s, its picture at '
                f'{duration:.2f} s: silence from there on'
            )
        return dict(
            num_frames=self.timeline.num_frames,
            duration=round(duration, 4),
            names=self.timeline.names(duration),
            notes=self.notes,
        )

    def _sample(self, footer: dict[str, Any]) -> SegDataSample:
        """All label maps as one data sample."""
        fps = self.request.fps
        times = [i / fps for i in range(len(self.maps))]
        sample = SegDataSample(
            metainfo=dict(
                clip_id=self.name,
                vocabulary=self.request.vocabulary.names,
                palette=self.request.palette.tolist(),
                ori_shape=tuple(self.source.size),
                times=times,
                timeline=footer,
            )
        )
        sample.pred_sem_seg = PixelData(data=torch.from_numpy(np.stack(self.maps)))
        return sample

    def _note(self, message: str) -> None:
        """Warn, and keep the message for the prediction."""
        warnings.warn(message, stacklevel=3)
        self.notes.append(message)


def output_names(items: list) -> list[str]:
    """Names of outputs, which do not depend on the order of different inputs.

    No two are the same where capital letters do not matter, and none leads into another folder. None ends in ``.json``:
    the folder of its label maps would have the name of another one's timeline.
    """
    stems = [re.sub(r'\.(json)$', r'_\1', safe_name(_stem(item)), flags=re.I) for item in items]
    counts = Counter(stem.casefold() for stem in stems)
    names = []
    for item, stem in zip(items, stems, strict=True):
        if counts[stem.casefold()] > 1 and isinstance(item, (str, Path)):  # two files of one name
            stem = f'{Path(item).resolve().parent.name}_{stem}'
        names.append(safe_name(stem))
    out: list[str] = []
    taken: set[str] = set()
    last: dict[str, int] = {}  # number that a name was given last
    for name in names:
        number, unique = last.get(name, 1), name
        while unique.casefold() in taken:
            number += 1
            unique = f'{name}_{number}'
        last[name] = number
        taken.add(unique.casefold())
        out.append(unique)
    return out


def _stem(item: Any) -> str:
    """What to call the outputs of an input."""
    if isinstance(item, Source):
        return item.name
    if isinstance(item, dict):
        named = item.get('name')
        path = item.get('video', item.get('frames'))
        if named is None and isinstance(path, (str, Path)):
            return _stem(path)
        return str(named or 'frames')
    if isinstance(item, (str, Path)):
        path = Path(item).resolve()
        return path.name if os.path.isdir(path) else path.stem
    return 'frames'
