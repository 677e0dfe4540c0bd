# SPDX-License-Identifier: Apache-2.0
"""Opens any kind of input: videos, folders of pictures, and arrays."""

import os.path as osp
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.transforms.loading import read_rgb
from .base import Picture, Source
from .listing import PICTURES, SOUNDS, list_files
from .media import MAX_SECONDS, READABLE, check_picture
from .sound import SoundTrack, track_of_array
from .video_source import VideoSource

KEYS = ('video', 'frames', 'sound', 'sample_rate', 'frame_rate', 'audio_track', 'name')


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
            yield Picture(i / self.rate, (i + 1) / self.rate, partial(self._load, i, self.size), i)

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
def open_source(item: object, audio_track: int | None = None) -> Source:
    """Open one input.

    Args:
        item (object): path of a video file; path of a folder of pictures, one per second, whose sound is the one sound
            file in it; an array uint8 RGB (T, H, W, 3) of silent frames, one per second; or a dict with ``video`` (a
            path) or ``frames`` (folder, list of pictures, or array), and optionally ``sound`` (a path, or an array with
            ``sample_rate``), ``frame_rate`` of the frames, ``audio_track`` of the video and ``name``.
        audio_track (int): which sound track of a video, from 1; see :class:`VideoSource`. Defaults to None.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the input is none of these, or cannot be read.
    """
    if isinstance(item, Source):
        return item
    if isinstance(item, (str, Path)):
        path = str(item)
        if path.lower().endswith(PICTURES) and osp.isfile(path):
            raise ValueError(
                f'{path} is one picture: give the folder of its pictures, one per second, or a video. {READABLE}'
            )
        return _folder(path) if osp.isdir(path) else VideoSource(path, audio_track=audio_track)
    if isinstance(item, np.ndarray):
        return PicturesSource(item, 'frames')
    if isinstance(item, dict):
        return _from_dict(item if audio_track is None else dict(audio_track=audio_track) | item)
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
        return VideoSource(str(item['video']), item.get('name'), sound, item.get('audio_track'))
    frames, name, rate = item['frames'], item.get('name'), item.get('frame_rate', 1.0)
    if isinstance(frames, (str, Path)):
        return _folder(str(frames), name, sound, rate)
    if isinstance(frames, (list, tuple)) and all(isinstance(f, (str, Path)) for f in frames):
        frames = [str(frame) for frame in frames]
        name = name or Path(frames[0]).resolve().parent.name if frames else 'frames'
    elif isinstance(frames, (list, tuple)):
        frames = np.stack(frames)
    return PicturesSource(frames, name or 'frames', sound, rate)


def _track(sound: Any, sample_rate: int | None) -> SoundTrack | None:
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
        raise ValueError(f'{folder} has neither pictures ({", ".join(PICTURES)}) nor videos in it. {READABLE}')
    sounds = list_files(folder, SOUNDS)
    if sound is None and len(sounds) > 1:
        raise ValueError(f"{folder} has {len(sounds)} sound files; say which with dict(frames={folder!r}, sound='...')")
    if sound is None and sounds:
        sound = _track(sounds[0], None)
    return PicturesSource(pictures, name or Path(folder).resolve().name, sound, rate)
