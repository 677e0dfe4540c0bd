# SPDX-License-Identifier: Apache-2.0
"""Videos, folders of pictures and arrays, read frame by frame."""

import os.path as osp
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ...datasets.transforms.loading import read_rgb
from .listing import PICTURES, SOUNDS, list_files
from .media import MAX_SECONDS, MAX_STILL, check_picture, has_all_packets, open_media, picture_stream, sound_stream
from .sound import SoundTrack, track_of_array

# A frame may be this much later than the time stamp it stands for, whatever the frame rate.
MAX_TOLERANCE = 0.05  # s
KEYS = ('video', 'frames', 'sound', 'sample_rate', 'frame_rate', 'name')


@dataclass
class Picture:
    """A frame that has not been turned into an array yet."""

    time: float  # when it is shown, in seconds from the first frame
    end: float  # when it is shown no more
    rgb: Callable[[], np.ndarray]  # makes the array, uint8 RGB (H, W, 3)


class Source:
    """A stream of frames with sound; subclasses say where the frames come from.

    Args:
        name (str): what to call it, and its outputs.
        sound (SoundTrack): its track. None, the default, is silence.

    Attributes:
        size (tuple[int, int]): (H, W) of the frames as they are shown, in pixels.
        rate (float): mean number of frames per second.
        pixel_aspect (Fraction): width of a pixel over its height, None for square ones.
        duration (float): in seconds, None if it is not known before the end.
        damage (str): what could not be read, once that was met.
    """

    size: tuple[int, int]
    rate: float
    pixel_aspect: Fraction | None = None
    duration: float | None = None

    def __init__(self, name: str, sound: SoundTrack | None = None) -> None:
        self.name, self.sound = name, sound
        self.damage: str | None = None

    def pictures(self) -> Iterator[Picture]:
        """Frames from the first on, in order of time; each call starts anew."""
        raise NotImplementedError

    @property
    def tolerance(self) -> float:
        """Half the time between two frames, at most 0.05 s: time stamps are rounded."""
        return min(0.5 / self.rate, MAX_TOLERANCE)


def frames_at(source: Source, fps: int) -> Iterator[tuple[float, np.ndarray]]:
    """The frames that are shown at whole ``1 / fps`` seconds.

    Args:
        source (Source): of fixed or variable frame rate.
        fps (int): frames per second.

    Yields:
        tuple[float, np.ndarray]: time ``j / fps``, and the last frame, uint8 RGB (H, W, 3), that is shown by then or up
        to ``source.tolerance`` later. There is at least one.
    """
    number, before = 0, None
    for picture in source.pictures():
        while before is not None and picture.time > number / fps + source.tolerance:
            yield number / fps, before.rgb()
            number += 1
        before = picture
    while before is not None and (number == 0 or number / fps <= before.end - source.tolerance):
        yield number / fps, before.rgb()
        number += 1


class VideoSource(Source):
    """A video file, read by PyAV and rotated as its metadata say.

    Args:
        path (str): of the file.
        name (str): what to call it. Defaults to the file's name.
        sound (SoundTrack): its track. Defaults to the file's own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no video, or none of its frames can be decoded.
    """

    def __init__(self, path: str, name: str | None = None, sound: SoundTrack | None = None) -> None:
        super().__init__(name or Path(path).stem, sound)
        self.path = str(path)
        with self._open() as container:
            stream = picture_stream(container)
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            self.rate = min(max(rate, 1 / MAX_STILL), 1000.0)
            self.duration = _duration(container, stream)
            self.pixel_aspect = stream.codec_context.sample_aspect_ratio or None
            self._whole = has_all_packets(container, self.path)
            track = sound_stream(container)
            has_sound = track is not None and track.codec_context is not None
        first = next(self._decode(), None)
        if first is None:
            raise ValueError(f'no frame of {self.path} can be decoded: {self.damage or "it is empty"}')
        self.start = first.time or 0.0
        height, width = first.height, first.width
        check_picture(self.path, width, height)
        self.turns = round((getattr(first, 'rotation', 0) or 0) / 90) % 4
        self.size = (width, height) if self.turns % 2 else (height, width)
        if self.pixel_aspect and self.turns % 2:
            self.pixel_aspect = 1 / self.pixel_aspect
        if sound is None and has_sound:
            self.sound = SoundTrack(self.path, self.path, self.start)

    def _open(self) -> av.container.InputContainer:
        """Open the file and check that it has moving pictures."""
        if not osp.isfile(self.path):
            raise FileNotFoundError(f'there is no video {self.path}')
        try:
            container = open_media(self.path)
        except av.FFmpegError as error:
            raise ValueError(
                f'{self.path} cannot be read as a video ({error.strerror}): it is of another format, damaged or '
                'incomplete (an mp4 file that was cut off may have lost its table of contents)'
            ) from error
        try:
            stream = picture_stream(container)
            if stream is None:
                raise ValueError(f'{self.path} has no picture stream, only sound or data')
            codec = stream.codec_context
            if codec is None:
                raise ValueError(f'the pictures of {self.path} are of a format that is not known')
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
                for packet in container.demux(stream):
                    try:
                        yield from packet.decode()
                    except av.error.EOFError:
                        return
                    except av.FFmpegError as error:
                        self.damage = f'a packet could not be decoded ({error.strerror})'
            except av.FFmpegError as error:
                self.damage = f'it could not be read to its end ({error.strerror})'

    def pictures(self) -> Iterator[Picture]:
        """Frames from the first on; those without a time stamp follow at the mean rate."""
        end = 0.0
        for frame in self._decode():
            time = end if frame.time is None else frame.time - self.start
            if not end - MAX_STILL <= time <= min(end + MAX_STILL, MAX_SECONDS):
                self.damage = (
                    f'a frame at {time:.0f} s follows one at {end:.0f} s; a frame may stand for {MAX_STILL} s, and a '
                    f'video be {MAX_SECONDS} s long'
                )
                return
            length = float((frame.duration or 0) * (frame.time_base or 0)) or 1 / self.rate
            end = time + min(max(length, 0.0), float(MAX_STILL))
            yield Picture(time, end, lambda frame=frame: self._rgb(frame))
        missing = 0.0 if self.duration is None else self.duration - end
        said = self.damage is not None and 'were announced' in self.damage  # frames are read twice
        if missing > max(0.5, 2 / self.rate) and not self._whole and not said:
            self.damage = f'its pictures end after {end:.2f} s, but {self.duration:.2f} s were announced' + (
                f': {self.damage}' if self.damage else ''
            )

    def _rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """A frame as it is shown, at the size of the first."""
        height, width = self.size[::-1] if self.turns % 2 else self.size
        rgb = frame.to_ndarray(format='rgb24', width=width, height=height)
        return np.ascontiguousarray(np.rot90(rgb, self.turns))


def _duration(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> float | None:
    """Announced length of the pictures in seconds, None if there is none that can be true."""
    seconds = None
    if stream.duration is not None:  # the container's counts the sound too
        seconds = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        seconds = container.duration / av.time_base
    return None if seconds is None or not 0 <= seconds <= MAX_SECONDS else seconds


class PicturesSource(Source):
    """Frames of a fixed rate: picture files, or an array.

    Args:
        frames (list[str] | np.ndarray): paths of pictures, or uint8 RGB (T, H, W, 3).
        name (str): what to call it.
        sound (SoundTrack): its track. None, the default, is silence.
        rate (float): frames per second. Defaults to 1.

    Raises:
        ValueError: no frames, or an array of another shape or dtype.
    """

    def __init__(
        self, frames: list[str] | np.ndarray, name: str, sound: SoundTrack | None = None, rate: float = 1.0
    ) -> None:
        super().__init__(name, sound)
        if not isinstance(frames, list):
            frames = np.asarray(frames)
            if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
                raise ValueError(f'frames must be uint8 RGB (T, H, W, 3), got {frames.dtype} {frames.shape}')
        if len(frames) == 0 or not 0 < rate < float('inf'):
            raise ValueError(f'{name} must have frames and a frame_rate above 0, got {len(frames)} and {rate}')
        self.frames, self.rate = frames, float(rate)
        self.duration = len(frames) / self.rate
        self.size = self._load(0, None).shape[:2]
        check_picture(name, self.size[1], self.size[0])
        if self.duration > MAX_SECONDS:
            raise ValueError(f'{name} lasts {self.duration:g} s, at most {MAX_SECONDS} are labelled')

    def pictures(self) -> Iterator[Picture]:
        """The frames, ``1 / rate`` seconds each."""
        for i in range(len(self.frames)):
            yield Picture(i / self.rate, (i + 1) / self.rate, lambda i=i: self._load(i, self.size))

    def _load(self, i: int, size: tuple[int, int] | None) -> np.ndarray:
        """Frame i, which must be of the size of the first."""
        frame = self.frames[i]
        if not isinstance(frame, str):
            return np.asarray(frame)
        rgb = read_rgb(frame)
        if size is not None and rgb.shape[:2] != size:
            raise ValueError(f'{frame} has {rgb.shape[:2]} pixels, the first picture of {self.name} {size}')
        return rgb


# ------------------------------------------------------------------ opening
def open_source(item: object) -> Source:
    """Open one input.

    Args:
        item (object): path of a video file; path of a folder of pictures, one per second, whose sound is the one sound
            file in it; an array uint8 RGB (T, H, W, 3) of silent frames, one per second; or a dict with ``video`` (a
            path) or ``frames`` (folder, list of pictures, or array), and optionally ``sound`` (a path, or an array with
            ``sample_rate``), ``frame_rate`` of the frames and ``name``.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the input is none of these, or cannot be read.
    """
    if isinstance(item, Source):
        return item
    if isinstance(item, (str, Path)):
        path = str(item)
        return _folder(path) if osp.isdir(path) else VideoSource(path)
    if isinstance(item, np.ndarray):
        return PicturesSource(item, 'frames')
    if isinstance(item, dict):
        return _from_dict(item)
    raise ValueError(f'an input must be a path, an array or a dict of {", ".join(KEYS)}, got {type(item).__name__}')


def _from_dict(item: dict) -> Source:
    """Open an input given as a dict."""
    unknown = sorted(set(item) - set(KEYS))
    if unknown or ('video' in item) == ('frames' in item):
        raise ValueError(
            f'an input needs either video or frames, and may have of {", ".join(KEYS)}; got {sorted(item)}'
        )
    sound = _track(item.get('sound'), item.get('sample_rate'))
    if 'video' in item:
        return VideoSource(str(item['video']), item.get('name'), sound)
    frames, name, rate = item['frames'], item.get('name'), item.get('frame_rate', 1.0)
    if isinstance(frames, (str, Path)):
        return _folder(str(frames), name, sound, rate)
    if isinstance(frames, (list, tuple)) and all(isinstance(f, (str, Path)) for f in frames):
        frames = [str(frame) for frame in frames]
        name = name or Path(frames[0]).resolve().parent.name if frames else 'frames'
    elif isinstance(frames, (list, tuple)):
        frames = np.stack(frames)
    return PicturesSource(frames, name or 'frames', sound, rate)


def _track(sound: object, sample_rate: int | None) -> SoundTrack | None:
    """A track from a path or samples."""
    if sound is None or isinstance(sound, SoundTrack):
        return sound
    if isinstance(sound, (str, Path)):
        track = SoundTrack(str(sound), str(sound))
        track.open().close()  # raises if there is none
        return track
    if sample_rate is None:
        raise ValueError('a sound array needs its sample_rate in Hz')
    return track_of_array(sound, sample_rate)


def _folder(folder: str, name: str | None = None, sound: SoundTrack | None = None, rate: float = 1.0) -> Source:
    """Open a folder of pictures with or without a sound file; the pictures may lie in ``frames/``."""
    if not osp.isdir(folder):
        raise FileNotFoundError(f'there is no folder {folder}')
    pictures = list_files(folder, PICTURES)
    if not pictures and osp.isdir(osp.join(folder, 'frames')):
        pictures = list_files(osp.join(folder, 'frames'), PICTURES)
    if not pictures:
        raise ValueError(f'{folder} has no pictures ({", ".join(PICTURES)}) in it')
    sounds = list_files(folder, SOUNDS)
    if sound is None and len(sounds) > 1:
        raise ValueError(f"{folder} has {len(sounds)} sound files; say which with dict(frames={folder!r}, sound='...')")
    if sound is None and sounds:
        sound = _track(sounds[0], None)
    return PicturesSource(pictures, name or Path(folder).resolve().name, sound, rate)
