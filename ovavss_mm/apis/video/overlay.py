# SPDX-License-Identifier: Apache-2.0
"""Writes the input video with its sound and the predicted masks overlaid."""

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from ...utils.text import one_line
from ...visualization.drawing import blend, write_names
from .media import sound_stream
from .request import InferenceRequest
from .sound import SoundTrack, decoded_sound
from .sources import Picture, Source

MAX_RATE = 30  # frames a second that are written at most
CLOCK = 90000  # ticks a second
# Sound of these kinds goes into an mp4 file as it is.
COPIED = ('aac', 'mp3', 'ac3', 'eac3', 'opus', 'flac', 'alac')
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
MAX_SHOWN = 39  # letters of a name that are written on a mask


class Overlay:
    """Colours and names of one label map: drawn once, laid over many frames.

    Args:
        label_map (np.ndarray): integer (H, W), 0 background, i + 1 name i.
        request (InferenceRequest): class names, colours and opacity.
    """

    def __init__(self, label_map: np.ndarray, request: InferenceRequest) -> None:
        present, labels = np.unique(label_map, return_inverse=True)
        labels = labels.reshape(label_map.shape)
        if present[0] != 0:  # the drawing takes 0 for the background, and 255 for no label
            present, labels = np.insert(present, 0, 0), labels + 1
        self.empty = len(present) == 1
        if self.empty:
            return
        names = ['background', *(one_line(request.vocabulary[i - 1], MAX_SHOWN) for i in present[1:])]
        palette, size = request.palette[present], max(12, min(label_map.shape) // 30)

        def drawn_on(value: int) -> np.ndarray:
            frame = np.full((*label_map.shape, 3), value, np.uint8)
            frame = blend(frame, labels, palette, request.opacity)
            return write_names(frame, labels, names, palette, size)

        # every step of the drawing is linear in the frame, so two frames tell how any frame looks
        self.add = drawn_on(0)
        self.keep = drawn_on(255) - self.add

    def over(self, frame: np.ndarray) -> np.ndarray:
        """The overlay on a frame, both uint8 RGB (H, W, 3)."""
        if self.empty:
            return frame
        return cv2.add(cv2.multiply(frame, self.keep, scale=1 / 255), self.add)


class OverlayVideo:
    """Writes an H.264 mp4 of all frames of a source (at most 30 per second), labelled, with the source's sound.

    Args:
        path (Path): of the file.
        source (Source): read a second time, behind the labels.
        request (InferenceRequest): class names, colours and opacity.
    """

    def __init__(self, path: Path, source: Source, request: InferenceRequest) -> None:
        self.source, self.request = source, request
        self.end = 0.0  # of the last frame that was written, in seconds
        self._pictures = source.pictures()
        self._pending: Picture | None = next(self._pictures, None)
        self._written = -1.0
        with ExitStack() as unless_ready:  # whatever ends this half-way, the file is closed
            self._file = av.open(str(path), 'w', options={'movflags': 'faststart'})
            unless_ready.callback(self._file.close)
            self._stream = self._add_stream()
            self._sound = None if source.sound is None else _Sound(source.sound, self._file)
            unless_ready.pop_all()

    def _add_stream(self) -> av.video.stream.VideoStream:
        """The stream of pictures."""
        rate = Fraction(min(self.source.rate, MAX_RATE)).limit_denominator(1001)
        if 'libx264' in av.codecs_available:
            stream = self._file.add_stream('libx264', rate=rate)
            stream.options = {'preset': 'veryfast', 'crf': '20'}
        else:
            stream = self._file.add_stream('mpeg4', rate=rate)
            stream.options = {'qscale': '3'}
        # H.264 of this kind has even sizes
        stream.height, stream.width = (side + side % 2 for side in self.source.size)
        stream.pix_fmt = 'yuv420p'
        if self.source.pixel_aspect:
            stream.codec_context.sample_aspect_ratio = self.source.pixel_aspect
        stream.codec_context.time_base = Fraction(1, CLOCK if stream.name == 'libx264' else 1000)
        return stream

    def write(self, label_map: np.ndarray, until: float | None) -> None:
        """Write the frames to which a label map belongs, up to the next one's time in seconds (None: to the end)."""
        overlay = Overlay(label_map, self.request)
        tolerance = self.source.tolerance
        while self._pending is not None and (until is None or self._pending.time + tolerance < until):
            picture, self._pending = self._pending, next(self._pictures, None)
            if picture.time >= self._written + 0.9 / MAX_RATE:
                self._write_frame(overlay.over(picture.rgb()), picture)
            self.end = max(self.end, picture.end)
        if self._sound is not None:
            self._sound.mux(self.end)

    def _write_frame(self, rgb: np.ndarray, picture: Picture) -> None:
        """Encode one frame."""
        height, width = rgb.shape[:2]
        if height % 2 or width % 2:
            rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), 'edge')
        frame = av.VideoFrame.from_ndarray(rgb, 'rgb24')
        base = self._stream.codec_context.time_base
        frame.pts, frame.time_base = round(picture.time / base), base
        if hasattr(type(frame), 'duration'):
            frame.duration = max(1, round((picture.end - picture.time) / base))
        self._file.mux(self._stream.encode(frame))
        self._written = picture.time

    def close(self) -> None:
        """Finish the file."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            file.mux(self._stream.encode(None))
            if self._sound is not None:
                self._sound.finish(self.end)
        finally:
            file.close()


class _Sound:
    """Copies the sound of a track into a file, or makes AAC of it where that cannot be."""

    def __init__(self, track: SoundTrack, file: av.container.OutputContainer) -> None:
        self._input, self._file = track.open(), file
        stream = sound_stream(self._input)
        self._start = track.start_on_clock(self._input)
        if stream.codec_context.name.split('_')[0].removesuffix('float') in COPIED:
            self._stream, self._packets = file.add_stream_from_template(stream), self._copy(stream)
        else:
            rate = min(AAC_RATES, key=lambda r: abs(r - stream.codec_context.sample_rate))
            self._stream = file.add_stream('aac', rate=rate)
            self._stream.layout = 'mono' if stream.codec_context.channels == 1 else 'stereo'
            self._packets = self._encode()
        self._pending = next(self._packets, None)

    def mux(self, until: float) -> None:
        """Write the sound up to a time in seconds."""
        while self._pending is not None and self._pending[0] < until:
            self._file.mux(self._pending[1])
            self._pending = next(self._packets, None)

    def finish(self, end: float) -> None:
        """Write the rest up to the end of the pictures."""
        self.mux(end)
        self._packets.close()
        self._input.close()

    def _copy(self, stream: av.audio.stream.AudioStream) -> Iterator[tuple[float, av.Packet]]:
        """Packets as they are, on the pictures' clock; sound before the picture is left out."""
        shift = round(self._start / stream.time_base)
        try:
            for packet in self._input.demux(stream):
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

    def _encode(self) -> Iterator[tuple[float, av.Packet]]:
        """AAC packets of the decoded sound."""
        for frame in decoded_sound(self._input):
            if isinstance(frame, str):
                continue
            if frame.pts is not None:
                frame.pts -= round(self._start / frame.time_base)
                if frame.pts < 0:
                    continue
            yield from self._timed(self._stream.encode(frame))
        yield from self._timed(self._stream.encode(None))

    @staticmethod
    def _timed(packets: list[av.Packet]) -> Iterator[tuple[float, av.Packet]]:
        """Packets with their times in seconds."""
        for packet in packets:
            yield float((packet.pts or 0) * packet.time_base), packet
