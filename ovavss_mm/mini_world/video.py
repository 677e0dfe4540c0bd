# SPDX-License-Identifier: Apache-2.0
"""A clip of the mini world as a video file with sound."""

import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ..utils.files import atomic_path
from .drawing import iter_pictures
from .names import NAMES
from .scene import FRAME_SIZE, Scene, sample_scene
from .sound import SAMPLE_RATE, render_sound

SCENE_SECONDS = 20  # a longer video goes on with another scene of the same names


def video_scenes(
    seconds: int, seed: int = 0, sounding: Sequence[str] = (), silent: Sequence[str] = ()
) -> Iterator[Scene]:
    """Sample the scenes of a video, one after the other.

    Args:
        seconds (int): length of the video, at least 1.
        seed (int): of all random numbers. Defaults to 0.
        sounding (Sequence[str]): names that sound in some of the seconds. Defaults to two that are drawn.
        silent (Sequence[str]): names that are only seen. Defaults to none; where ``sounding`` is empty too, one is
            drawn.

    Yields:
        Scene: of 20 seconds, the last one of what is left.

    Raises:
        ValueError: a name is unknown or given twice, or ``seconds`` is below 1.
    """
    if seconds < 1:
        raise ValueError(f'a video must have at least 1 second, got {seconds}')
    if not sounding:
        drawn = np.random.default_rng((seed, 7)).permutation([n for n in NAMES if n not in silent])
        sounding, silent = drawn[:2].tolist(), silent or drawn[2:3].tolist()
    for number, start in enumerate(range(0, seconds, SCENE_SECONDS)):
        rng = np.random.default_rng((seed, 8, number))
        length = min(SCENE_SECONDS, seconds - start)
        yield sample_scene(rng, tuple(sounding), tuple(silent), length)


def write_video(path: str | Path, scenes: Iterable[Scene], fps: int = 25, scale: int = 3) -> None:
    """Write scenes, one after the other, as H.264 and AAC in an mp4 file, atomically.

    Frames are those of the mini world, 128 x 96, enlarged ``scale`` times; ValueError if it or ``fps`` is below 1.
    """
    import av

    if fps < 1 or scale < 1:
        raise ValueError(f'fps and scale must be at least 1, got {fps} and {scale}')
    with atomic_path(path) as beside, av.open(os.fspath(beside), 'w', format='mp4') as file:
        video = file.add_stream('libx264', rate=fps, options={'crf': '18', 'preset': 'veryfast'})
        video.height, video.width = (scale * side for side in FRAME_SIZE)
        video.pix_fmt = 'yuv420p'
        audio = file.add_stream('aac', rate=SAMPLE_RATE, layout='mono', bit_rate=96000)
        done = 0  # seconds
        for scene in scenes:
            frame = av.AudioFrame.from_ndarray(render_sound(scene)[None], 'fltp', 'mono')
            frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
            frame.pts = done * SAMPLE_RATE
            file.mux(audio.encode(frame))
            for index, (picture, _) in enumerate(iter_pictures(scene, fps)):
                picture = cv2.resize(picture, (video.width, video.height))
                frame = av.VideoFrame.from_ndarray(picture, 'rgb24')
                frame.pts, frame.time_base = done * fps + index, Fraction(1, fps)
                file.mux(video.encode(frame))
            done += scene.num_seconds
        file.mux(video.encode(None))
        file.mux(audio.encode(None))
