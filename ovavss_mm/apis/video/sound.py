# SPDX-License-Identifier: Apache-2.0
"""Sound of any format as a stream of mono samples on the clock of the pictures."""

import io
import math
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import av
import numpy as np
import soundfile

from ...datasets.transforms.front_ends import mix, to_mono
from .clock import shifted_packets
from .media import MAX_CHANNELS, check_sound, open_media, sound_stream

# Sound whose time stamps are off by less than this goes on without a gap: stamps are rounded.
GAP_SECONDS = 0.03
FILTER_ZEROS = 66  # samples at the lower rate on each side that a resampled one depends on


@dataclass
class SoundTrack:
    """Where sound comes from; opened anew by each reader.

    Args:
        file (str | bytes): path of a sound or video file, or the content of one.
        name (str): what to call it in messages.
        start (float): time of the first picture on the file's own clock, in seconds. None: the sound has a file of its
            own and starts with the picture. Defaults to None.
        index (int): of its stream in the file. Defaults to None, that of :func:`.media.sound_stream`.
        shifts (list[tuple[int, float]]): of :class:`.clock.Clock`. Defaults to none.

    Attributes:
        seconds (float): how much of it a :class:`SoundReader` has read.
        cancelled (float): in how many of these seconds its channels cancel each other out.
        damage (str): what the reader could not use, once it met that.
    """

    file: str | bytes
    name: str
    start: float | None = None
    index: int | None = None
    shifts: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    cancelled: float = 0.0
    damage: str | None = None

    def open(self) -> av.container.InputContainer:
        """Open the file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it has no sound, or cannot be read.
        """
        if isinstance(self.file, str) and not os.path.isfile(self.file):
            raise FileNotFoundError(f'there is no sound file {self.file}')
        file = io.BytesIO(self.file) if isinstance(self.file, bytes) else self.file
        try:
            container = open_media(file)
        except av.FFmpegError as error:
            raise ValueError(f'{self.name} cannot be read as sound: {error.strerror}') from error
        try:
            stream = self.stream(container)
            if stream is None:
                none = 'has no sound in it that can be decoded' if container.streams.audio else 'has no sound in it'
                raise ValueError(f'{self.name} {none}')
            codec = stream.codec_context
            if codec.sample_rate and codec.channels:  # else it begins later in the file, and is checked then
                check_sound(self.name, codec.sample_rate, codec.channels)
        except ValueError:
            container.close()
            raise
        return container

    def stream(self, container: av.container.InputContainer) -> av.audio.stream.AudioStream | None:
        """Its stream in the opened file."""
        return sound_stream(container) if self.index is None else container.streams[self.index]

    def packets(self, container: av.container.InputContainer) -> Iterator[av.Packet]:
        """Its packets in the opened file, on the clock of the pictures but for ``start``."""
        return shifted_packets(container, self.stream(container), self.shifts)

    def decoded(self, container: av.container.InputContainer) -> Iterator[av.AudioFrame | str]:
        """Decode its packets; gives a message where they are damaged."""
        try:
            for packet in self.packets(container):
                try:
                    yield from packet.decode()
                except av.error.EOFError:
                    return
                except av.FFmpegError as error:
                    yield f'a packet of sound could not be decoded ({error.strerror})'
        except av.FFmpegError as error:
            yield f'the sound could not be read to its end ({error.strerror})'

    def converted(
        self,
        container: av.container.InputContainer,
        sample_format: str,
        layout: str | None = None,
        rate: int | None = None,
    ) -> Iterator[av.AudioFrame | str]:
        """Decoded sound of one sample format and rate, whatever it changes to; messages as of :meth:`decoded`.

        Without ``layout`` channels are kept, without ``rate`` (Hz) it is that of the first frame.

        Raises:
            ValueError: rate or channels out of range, see :func:`.media.check_sound`.
        """
        converter, kind = None, None
        for frame in self.decoded(container):
            if isinstance(frame, str):
                yield frame
                continue
            now = (frame.format.name, frame.layout.name, frame.sample_rate)
            if now != kind:
                yield from () if converter is None else converter.resample(None)
                check_sound(self.name, frame.sample_rate, frame.layout.nb_channels)
                rate = rate or frame.sample_rate
                converter, kind = av.AudioResampler(sample_format, layout or frame.layout, rate), now
            try:
                yield from converter.resample(frame)
            except av.FFmpegError as error:
                yield f'a stretch of sound could not be used ({error.strerror})'
                converter = kind = None
        if converter is not None:
            yield from converter.resample(None)

    def start_on_clock(self, container: av.container.InputContainer) -> float:
        """What the file's own clock shows when the picture starts, in seconds."""
        if self.start is not None:
            return self.start
        stream = self.stream(container)
        return float((stream.start_time or 0) * stream.time_base)


def track_of_array(sound: np.ndarray, sample_rate: int) -> SoundTrack:
    """Make a track of samples, float in [-1, 1] or int16, at a rate in Hz.

    They are (n,), (n, channels), or (channels, n) where only that can be meant: up to 64 rows, and more columns.

    Raises:
        ValueError: another shape or dtype, samples that are not finite, or a rate below 1.
    """
    sound = np.asarray(sound)
    if sound.ndim == 2 and len(sound) <= MAX_CHANNELS < sound.shape[1]:
        sound = sound.T  # (n, channels)
    fits = sound.ndim == 1 or (sound.ndim == 2 and sound.shape[1] <= MAX_CHANNELS)
    if not fits or not (sound.dtype == np.int16 or sound.dtype.kind == 'f'):
        raise ValueError(
            f'sound must be float or int16 (n,), (n, channels) or (channels, n), got {sound.dtype} {sound.shape}'
        )
    if sample_rate < 1 or not np.isfinite(sound).all():
        raise ValueError(f'sound must be finite and its sample_rate at least 1 Hz, got sample_rate {sample_rate}')
    file = io.BytesIO()
    kind = 'PCM_16' if sound.dtype == np.int16 else 'FLOAT'
    soundfile.write(file, sound, int(sample_rate), format='WAV', subtype=kind)
    return SoundTrack(file.getvalue(), 'the sound array')


class SoundReader:
    """Reads a track once, from its start to its end, as mono samples.

    What is asked for is resampled as :class:`~ovavss_mm.datasets.transforms.LoadClipAudio` does it. Only that, a second
    before it, and what the decoder gave beyond it is held in memory.

    Args:
        track (SoundTrack): the sound; None is silence.
        sample_rate (int): of the samples, in Hz.
    """

    def __init__(self, track: SoundTrack | None, sample_rate: int) -> None:
        self.track, self.sample_rate = track, sample_rate
        self.rate: int | None = None  # the track's own; positions below are counted at it
        self.end = 0  # samples after which nothing is known
        self._position = 0.0  # s
        self._parts: deque[tuple[int, np.ndarray]] = deque()
        self._decoded = iter(()) if track is None else self._decode()
        if track is not None:
            track.seconds, track.cancelled, track.damage = 0.0, 0.0, None

    def span(self, start: int, length: int) -> np.ndarray:
        """Samples ``start`` to ``start + length``, float32, silence where there are none.

        They are in [-1, 1]; only loud surround, which is added up, may go beyond.

        Raises:
            ValueError: ``start`` is more than a second before that of an earlier call.
        """
        kept = round((self._position - 1) * self.sample_rate)
        if start < kept:
            raise ValueError(f'sound is read onwards only, but {start} was asked for after {kept}')
        self._position = max(self._position, start / self.sample_rate)
        if self.rate is None and not self._decode_next():
            return np.zeros(length, np.float32)
        common = math.gcd(self.rate, self.sample_rate)
        new, old = self.sample_rate // common, self.rate // common
        if new == old:
            return self._own(start, length, kept=start - self.rate)
        room = math.ceil(FILTER_ZEROS * max(1, new / old))
        first = (start - room) // new  # both rates have a sample at each ``new``-th of the wanted ones
        stop = -(-(start + length + room) * old // new)
        samples = self._own(first * old, stop - first * old, kept=first * old - self.rate)
        # in double precision, as the test pipeline does it: else the precision depends on what was resampled before
        samples = to_mono(samples.astype(np.float64), self.rate, self.sample_rate)
        return samples[start - first * new :][:length].astype(np.float32)

    def _own(self, start: int, length: int, kept: int) -> np.ndarray:
        """Samples at the track's own rate; those before ``kept`` are forgotten."""
        while self.end < start + length and self._decode_next():
            pass
        while self._parts and self._parts[0][0] + len(self._parts[0][1]) <= kept:
            self._parts.popleft()
        out = np.zeros(length, dtype=np.float32)
        for at, samples in self._parts:
            first, last = max(at, start), min(at + len(samples), start + length)
            if first < last:
                out[first - start : last - start] = samples[first - at : last - at]
        return out

    def _decode_next(self) -> bool:
        """Decode a further stretch; False if there is none."""
        part = next(self._decoded, None)
        if part is not None and len(part[1]):
            self._parts.append(part)
            self.end = part[0] + len(part[1])
            self.track.seconds = self.end / self.rate
        return part is not None

    def _decode(self) -> Iterator[tuple[int, np.ndarray]]:
        """Stretches of samples with their positions, in order."""
        with self.track.open() as container:
            start, expected = self.track.start_on_clock(container), None
            # interleaved, see mono()
            for frame in self.track.converted(container, 'flt'):
                if isinstance(frame, str):
                    self.track.damage = frame
                    continue
                self.rate = self.rate or frame.sample_rate
                samples, cancelled = mono(frame)  # (n,)
                self.track.cancelled += cancelled * len(samples) / self.rate
                if frame.pts is not None:
                    stamp = round((float(frame.pts * frame.time_base) - start) * self.rate)
                    if expected is None or abs(stamp - expected) > GAP_SECONDS * self.rate:
                        expected = stamp
                expected = expected or 0
                skip = max(0, -expected)  # sound before the picture
                yield expected + skip, samples[skip:]
                expected += len(samples)


def mono(frame: av.AudioFrame) -> tuple[np.ndarray, bool]:
    """Samples of a frame of interleaved floats, mixed as :func:`mix` does it.

    Interleaved, as PyAV reads beyond the list of planes of a frame of 8 and more planar channels.

    Returns:
        tuple: float32 (n,), and whether the channels cancel each other out.
    """
    channels = frame.layout.nb_channels
    samples = np.nan_to_num(frame.to_ndarray()).reshape(-1, channels)  # (1, n * channels) -> (n, channels)
    return mix(samples, [channel.name for channel in frame.layout.channels])
