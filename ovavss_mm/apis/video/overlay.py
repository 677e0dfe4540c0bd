# SPDX-License-Identifier: Apache-2.0
"""Writes the input video with its sound and the predicted masks overlaid."""

import io
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from ...models.segmentors.windows import FrameObject
from ...utils.text import one_line
from ...visualization.drawing import blend, write_caption, write_names
from .base import Picture, Source
from .request import InferenceRequest, LabelledFrame
from .sound import SoundReader, SoundTrack
from .timeline import NOTHING_SOUNDS

CLOCK = 90000  # ticks a second
# Sound of these kinds goes into an mp4 file as it is.
COPIED = ('aac', 'mp3', 'ac3', 'eac3', 'opus', 'flac', 'alac')
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
MAX_SHOWN = 39  # letters of a name that are written on a mask


class Overlay:
    """Colours and names of one label map: drawn once, laid over many frames; without a label, a caption that says so.

    Args:
        label_map (np.ndarray): integer (H, W), 0 background, i + 1 name i.
        request (InferenceRequest): class names, colours and opacity.
        objects (Sequence[FrameObject]): names are written on these, else on what is of one name. The second object of a
            name and later ones are numbered: that the first has company is not known when it comes. Defaults to none.
        object_map (np.ndarray): integer (H, W), 0 background, i + 1 object i. Defaults to None.
    """

    def __init__(
        self,
        label_map: np.ndarray,
        request: InferenceRequest,
        objects: Sequence[FrameObject] = (),
        object_map: np.ndarray | None = None,
    ) -> None:
        labels, present = _counted(label_map)
        self.empty = len(present) == 1
        self.size = max(12, min(label_map.shape) // 30)  # of letters
        if self.empty:
            return
        parts, shown, tags = labels, present, [''] * len(present)  # what names are written on; which; what follows them
        if objects:
            parts, kept = _counted(object_map)
            shown = np.array([0, *(objects[i - 1].label + 1 for i in kept[1:])])
            numbers = [0, *(objects[i - 1].number for i in kept[1:])]
            tags = [f' {number}' if number > 1 else '' for number in numbers]
        vocabulary = ('background', *request.vocabulary)
        names = [one_line(vocabulary[i], MAX_SHOWN) + tag for i, tag in zip(shown, tags, strict=True)]

        def drawn_on(value: int) -> np.ndarray:
            frame = np.full((*label_map.shape, 3), value, np.uint8)
            frame = blend(frame, labels, request.palette[present], request.opacity)
            return write_names(frame, parts, names, request.palette[shown], self.size)

        # every step of the drawing is linear in the frame, so two frames tell how any frame looks
        self.add = drawn_on(0)
        self.keep = drawn_on(255) - self.add

    @classmethod
    def of_frame(cls, frame: LabelledFrame, request: InferenceRequest) -> 'Overlay':
        """Of a labelled frame and its objects."""
        return cls(frame.label_map, request, frame.objects, frame.object_map)

    def over(self, frame: np.ndarray) -> np.ndarray:
        """The overlay on a frame, both uint8 RGB (H, W, 3)."""
        if self.empty:
            return write_caption(frame, NOTHING_SOUNDS, self.size)
        return cv2.add(cv2.multiply(frame, self.keep, scale=1 / 255), self.add)


def _counted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A map (H, W) of values as one of places among those that are present, and these values, 0 first.

    The drawing takes 0 for the background, and 255 for no label.
    """
    present, places = np.unique(values, return_inverse=True)
    places = places.reshape(values.shape)
    return (places, present) if present[0] == 0 else (places + 1, np.insert(present, 0, 0))


class SourceVideo:
    """Writes an H.264 mp4 of all frames of a source, which may be changed, with the source's sound.

    Args:
        path (Path): of the file.
        source (Source): of the frames.
        max_rate (float): frames a second that are written at most. Defaults to 30.
    """

    def __init__(self, path: Path, source: Source, max_rate: float = 30.0) -> None:
        self.source, self.max_rate = source, max_rate
        self.end = 0.0  # of the last frame that was written, in seconds
        self._pictures = source.pictures()
        self._pending: Picture | None = next(self._pictures, None)
        self._shown: Picture | None = None  # before the pending one
        self._written = -1.0
        self._lengths: dict[int, int] = {}  # of the pictures in the encoder, by time stamp
        with ExitStack() as unless_ready:  # whatever ends this half-way, the file is closed
            self._file = av.open(str(path), 'w', options={'movflags': 'faststart'})
            unless_ready.callback(self._file.close)
            self._stream = self._add_stream()
            self._sound = None if source.sound is None else _Sound(source.sound, self._file)
            unless_ready.pop_all()

    def _add_stream(self) -> av.video.stream.VideoStream:
        """The stream of pictures."""
        rate = Fraction(min(self.source.rate, self.max_rate)).limit_denominator(1001)
        if 'libx264' in av.codecs_available:
            stream = self._file.add_stream('libx264', rate=rate)
            stream.options = {'preset': 'veryfast', 'crf': '20'}
        else:
            stream = self._file.add_stream('mpeg4', rate=rate)
            stream.options = {'qscale': '3'}
        # H.264 of this kind has even sizes
        stream.height, stream.width = (side + side % 2 for side in self.source.size)
        stream.pix_fmt = 'yuv420p'
        stream.codec_context.time_base = Fraction(1, CLOCK if stream.name == 'libx264' else 1000)
        return stream

    def write_changed(self, change: Callable[[np.ndarray], np.ndarray], time: float, until: float | None) -> None:
        """Write the frames from a time on until another in seconds (None: the end), each changed in the same way.

        A picture that is shown longer is written again, with the next change.
        """
        tolerance = self.source.tolerance
        held = self._shown
        if held is not None and time + tolerance < held.end and time >= self._written + 0.9 / self.max_rate:
            self._write_frame(change, Picture(time, held.end, held.rgb), until)
        while self._pending is not None and (until is None or self._pending.time + tolerance < until):
            picture, self._pending = self._pending, next(self._pictures, None)
            if picture.time >= self._written + 0.9 / self.max_rate:
                self._write_frame(change, picture, until)
            self._shown = picture
        if self._sound is not None:
            self._sound.mux(self.end)

    def _write_frame(self, change: Callable[[np.ndarray], np.ndarray], picture: Picture, until: float | None) -> None:
        """Encode a picture, to be shown until its end or the next change."""
        rgb = change(picture.rgb())
        height, width = rgb.shape[:2]
        if height % 2 or width % 2:
            rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), 'edge')
        frame = av.VideoFrame.from_ndarray(rgb, 'rgb24')
        base = self._stream.codec_context.time_base
        end = picture.end if until is None else min(picture.end, max(until, picture.time))
        frame.pts, frame.time_base = round(picture.time / base), base
        self._lengths[frame.pts] = max(1, round((end - picture.time) / base))
        self._mux(self._file, self._stream.encode(frame))
        self._written, self.end = picture.time, max(self.end, end)

    def _mux(self, file: av.container.OutputContainer, packets: list[av.Packet]) -> None:
        """Write encoded pictures; the encoder takes each for as long as the mean rate says."""
        for packet in packets:
            packet.duration = self._lengths.pop(packet.pts, packet.duration)
            file.mux(packet)

    def close(self) -> None:
        """Finish the file."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            self._mux(file, self._stream.encode(None))
            if self._sound is not None:
                self._sound.finish(self.end)
        finally:
            file.close()


class OverlayVideo(SourceVideo):
    """Writes an H.264 mp4 of all frames of a source (at most 30 per second), labelled, with the source's sound.

    Args:
        path (Path): of the file.
        source (Source): read a second time, behind the labels.
        request (InferenceRequest): class names, colours and opacity.
    """

    def __init__(self, path: Path, source: Source, request: InferenceRequest) -> None:
        super().__init__(path, source)
        self.request = request

    def write(self, labelled: LabelledFrame, until: float | None) -> None:
        """Write the frames to which a labelled one belongs: from its time to the next one's in seconds (None: the end).

        A picture that is shown longer than its label map is written again with the next one.
        """
        self.write_changed(Overlay.of_frame(labelled, self.request).over, labelled.time, until)


def _can_copy(track: SoundTrack) -> bool:
    """Whether an mp4 file takes the packets of a track as they are: its first one is tried."""
    with track.open() as given, av.open(io.BytesIO(), 'w', 'mp4') as file:
        stream = track.stream(given)
        if stream.codec_context.name.split('_')[0].removesuffix('float') not in COPIED:
            return False
        try:
            packet = next(given.demux(stream))
            packet.stream = file.add_stream_from_template(stream)
            file.mux(packet)
        except (ValueError, av.FFmpegError):
            return False
    return True


class _Sound:
    """Copies the sound of a track into a file, or makes AAC of it where that cannot be."""

    def __init__(self, track: SoundTrack, file: av.container.OutputContainer) -> None:
        self._track, self._input, self._file = track, track.open(), file
        stream = track.stream(self._input)
        self._start = track.start_on_clock(self._input)
        if _can_copy(track):
            self._stream, self._packets = file.add_stream_from_template(stream), self._copy(stream)
        else:
            rate = min(AAC_RATES, key=lambda r: abs(r - (stream.codec_context.sample_rate or AAC_RATES[-1])))
            layout = stream.layout.name if stream.layout.name in ('mono', 'stereo') else 'mono'
            self._stream = file.add_stream('aac', rate=rate, layout=layout)
            frames = self._decoded(layout, rate) if layout == stream.layout.name else self._mixed(rate)
            self._packets = self._encode(frames)
        self._pending = next(self._packets, None)

    def mux(self, until: float) -> None:
        """Write the sound up to a time in seconds."""
        while self._pending is not None and self._pending[0] < until:
            with suppress(av.FFmpegError):  # damaged, or out of order: said where the sound is read for the model
                self._file.mux(self._pending[1])
            self._pending = next(self._packets, None)

    def finish(self, end: float) -> None:
        """Write the rest up to the end of the pictures."""
        self.mux(end)
        self._packets.close()
        self._input.close()

    def _copy(self, stream: av.audio.stream.AudioStream) -> Generator[tuple[float, av.Packet], None, None]:
        """Packets as they are, on the pictures' clock; sound before the picture is left out."""
        shift = round(self._start / stream.time_base)
        try:
            for packet in self._track.packets(self._input):
                if packet.dts is None or packet.pts is None:
                    continue
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                time = float(packet.pts * stream.time_base)
                # the packet before the first is there to start the decoder
                if time + 2 * float((packet.duration or 0) * stream.time_base) > 0:
                    packet.stream = self._stream
                    yield time, packet
        except av.FFmpegError:
            return  # damaged: said where the sound is read for the model

    def _decoded(self, layout: str, rate: int) -> Iterator[av.AudioFrame]:
        """Decoded sound of one layout and rate, on the pictures' clock from their start on."""
        for frame in self._track.converted(self._input, 'fltp', layout, rate):
            if isinstance(frame, str):
                continue
            if frame.pts is not None:
                frame.pts -= round(self._start / frame.time_base)
                if frame.pts < 0:
                    continue
            yield frame

    def _mixed(self, rate: int) -> Iterator[av.AudioFrame]:
        """Channels that an mp4 file may not have, mixed as the model hears them."""
        reader, at, step = SoundReader(replace(self._track), rate), 0, 1024
        while True:
            samples = reader.span(at, step)
            if reader.track.seconds <= at / rate:  # its end
                return
            frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), 'fltp', 'mono')  # (1, step)
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), at
            yield frame
            at += step

    def _encode(self, frames: Iterator[av.AudioFrame]) -> Generator[tuple[float, av.Packet], None, None]:
        """AAC packets of sound."""
        for frame in frames:
            yield from self._timed(self._stream.encode(frame))
        yield from self._timed(self._stream.encode(None))

    @staticmethod
    def _timed(packets: list[av.Packet]) -> Generator[tuple[float, av.Packet], None, None]:
        """Packets with their times in seconds."""
        for packet in packets:
            yield float((packet.pts or 0) * packet.time_base), packet
