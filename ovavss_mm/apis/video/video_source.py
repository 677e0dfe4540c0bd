# SPDX-License-Identifier: Apache-2.0
"""Videos, read by PyAV frame by frame."""

import os.path as osp
from collections.abc import Iterator
from pathlib import Path

import av

from .base import Picture, Source
from .clock import Clock, read_clock, shifted_packets
from .media import (
    MAX_SECONDS,
    MAX_STILL,
    READABLE,
    announced_seconds,
    check_picture,
    is_cut_off,
    open_media,
    picture_stream,
    sound_stream,
)
from .pixels import Shown
from .sound import SoundTrack

# Sound and pictures that end so much apart, or begin so, are meant to; less is rounding, or padding of a codec.
APART = 0.5  # s
PADDING = 0.2  # s that codecs add at the end of a sound; a second of so little is not labelled


class VideoSource(Source):
    """A video file, shown as a player shows it.

    Its frames are turned and mirrored as the display matrix says, pixels are square, and high dynamic range is brought
    to the standard one. A picture stays until the next one, the last one until the end of the sound if that is later.

    Args:
        path (str): of the file.
        name (str): what to call it. Defaults to the file's name.
        sound (SoundTrack): its track. Defaults to the file's own.
        audio_track (int): which of the file's sound tracks, from 1. Defaults to the one that the file marks as default,
            else the first that can be decoded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no video, none of its frames can be decoded, or it has no such sound track.
    """

    def __init__(
        self, path: str, name: str | None = None, sound: SoundTrack | None = None, audio_track: int | None = None
    ) -> None:
        super().__init__(name or Path(path).stem, sound)
        self.path = str(path)
        with self._open() as container:
            stream = picture_stream(container)
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            self.rate = min(max(rate, 1 / MAX_STILL), 1000.0)
            aspect = stream.sample_aspect_ratio
            own = sound_stream(container, audio_track, self.path) if sound is None else None
            if own is not None:
                self._note_tracks(container, own)
            elif sound is None and container.streams.audio:
                self.notes.append(f'the sound of {self.name} is of a format that is not known')
            own_index = own and own.index
            clock = read_clock(container)
            self.index, self.shifts = stream.index, clock.shifts.get(stream.index, [])
            self.damage = _missing(container, self.path, clock) or clock.damage
        first = next(self._decode(), None)
        if first is None:
            raise ValueError(f'no frame of {self.path} can be decoded: {self.damage or "it is empty"}')
        check_picture(self.path, first.width, first.height)
        self._shown = Shown(first, aspect)
        self.size = self._shown.size
        check_picture(self.path, self.size[1], self.size[0])
        if self._shown.hdr:
            self.notes.append(
                f'{self.name} has high dynamic range ({self._shown.hdr}): its colours are brought to the standard range'
            )
        self._set_times(first, clock, own_index)
        if own_index is not None:
            self.sound = SoundTrack(self.path, self.path, self.start, own_index, clock.shifts.get(own_index, []))

    def _note_tracks(self, container: av.container.InputContainer, taken: av.audio.stream.AudioStream) -> None:
        """Say which of several sound tracks is taken."""
        tracks = container.streams.audio
        if len(tracks) > 1:
            language = f' ({taken.language})' if taken.language not in (None, 'und') else ''
            number = [track.index for track in tracks].index(taken.index) + 1
            self.notes.append(
                f'{self.name} has {len(tracks)} sound tracks: number {number}{language} is taken; --audio-track N, or '
                'audio_track=N in Python, takes another one'
            )

    def _set_times(self, first: av.VideoFrame, clock: Clock, own_index: int | None) -> None:
        """Set start and duration, and say what is odd with the clock."""
        begin, end = clock.spans.get(self.index, (0.0, 0.0))
        self.start = begin if first.time is None else float(first.time)
        sound = clock.spans.get(own_index)
        for at in clock.jumps:
            self.notes.append(
                f'the clock of {self.name} restarts or jumps after {at - self.start:.2f} s, as where recordings are '
                'joined: it is labelled as if it went on'
            )
        self._last = 0.0  # until when the last picture is shown at least
        if sound is not None:
            if sound[1] - end > APART:
                whole, rest = divmod(sound[1] - self.start, 1)
                self._last = min(whole if rest < PADDING else whole + rest, float(MAX_SECONDS))
            if self.start - sound[0] > APART:
                self.notes.append(
                    f'the pictures of {self.name} begin {self.start - sound[0]:.2f} s after its sound: what is heard '
                    'before them is left out'
                )
        # of raw streams without time stamps nothing is known before the end
        self.duration = min(max(end - self.start, self._last, 0.0), float(MAX_SECONDS)) or None

    def _open(self) -> av.container.InputContainer:
        """Open the file and check that it has moving pictures."""
        if not osp.isfile(self.path):
            raise FileNotFoundError(f'there is no video {self.path}')
        try:
            container = open_media(self.path)
        except av.FFmpegError as error:
            raise ValueError(
                f'{self.path} cannot be read as a video ({error.strerror}): it is of another format, damaged or '
                f'incomplete (an mp4 file that was cut off may have lost its table of contents). {READABLE}'
            ) from error
        try:
            stream = picture_stream(container)
            if stream is None:
                raise ValueError(f'{self.path} has no picture stream, only sound or data')
            codec = stream.codec_context
            if codec is None:
                raise ValueError(f'the pictures of {self.path} are of a format that is not known. {READABLE}')
            if codec.width or codec.height:
                check_picture(self.path, codec.width, codec.height)
        except ValueError:
            container.close()
            raise
        return container

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Frames as far as the file can be decoded."""
        with self._open() as container:
            stream = picture_stream(container)
            stream.thread_type = 'AUTO'
            try:
                for packet in shifted_packets(container, stream, self.shifts):
                    try:
                        yield from packet.decode()
                    except av.error.EOFError:
                        return
                    except av.FFmpegError as error:
                        self._met(f'a packet could not be decoded ({error.strerror})')
            except av.FFmpegError as error:
                self._met(f'it could not be read to its end ({error.strerror})')

    def _met(self, damage: str) -> None:
        """Note damage, unless some is known: frames are read more than once."""
        self.damage = self.damage or damage

    def pictures(self) -> Iterator[Picture]:
        """Frames from the first on; those without a time stamp follow at the mean rate."""
        before, at, time, end = None, 0, 0.0, 0.0
        for number, frame in enumerate(self._decode()):
            stamp = end if frame.time is None else frame.time - self.start
            if before is not None:
                if stamp <= time:  # two of one time: the later one is shown
                    stamp = time
                elif stamp > MAX_SECONDS:
                    break
                else:
                    yield self._picture(before, time, stamp, at)
            length = float((frame.duration or 0) * (frame.time_base or 0)) or 1 / self.rate
            before, at, time = frame, number, max(stamp, 0.0)
            end = time + min(max(length, 0.0), float(MAX_STILL))
        if before is not None:
            self.duration = min(max(end, self._last), float(MAX_SECONDS))  # packets may say more than is there
            yield self._picture(before, time, self.duration, at)

    def _picture(self, frame: av.VideoFrame, time: float, end: float, number: int) -> Picture:
        """A frame of a number that is shown from one time to another."""
        return Picture(time, end, lambda: self._shown.rgb(frame), number)


def _missing(container: av.container.InputContainer, path: str, clock: Clock) -> str | None:
    """Say what a file announces and does not have, of an mp4 file by its pictures, of others by its longest stream."""
    if is_cut_off(container, path):
        return 'it is cut off'
    announced, spans = announced_seconds(container, path), clock.spans
    if 'mp4' in container.format.name:
        index = picture_stream(container).index
        spans = {index: spans[index]} if index in spans else {}
    found = max((end for _, end in spans.values()), default=0.0)
    if 'matroska' not in container.format.name:  # whose length counts from 0 of the clock
        found -= min((start for start, _ in spans.values()), default=0.0)
    if announced is None or announced - found <= APART:
        return None
    also = f': {clock.damage}' if clock.damage else ''
    return f'its pictures end after {found:.2f} s, but {announced:.2f} s were announced{also}'
