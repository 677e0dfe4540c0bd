# SPDX-License-Identifier: Apache-2.0
"""Small video files with sound, made to order."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 16000


def numbered(count: int, size: tuple[int, int] = (32, 48)) -> list[np.ndarray]:
    """Frames whose number, in eight bits, is written in black and white stripes."""
    bits = (np.arange(count)[:, None] >> np.arange(8)) & 1  # (count, 8)
    columns = bits[:, np.arange(size[1]) * 8 // size[1]] * 255
    return [np.repeat(np.tile(row, (size[0], 1))[..., None], 3, 2).astype(np.uint8) for row in columns]


def number_of(rgb: np.ndarray) -> int:
    """The number of a frame, as it was or decoded."""
    width = rgb.shape[1]
    middle = rgb.mean((0, 2))[(np.arange(8) * 2 + 1) * width // 16]
    return int(((middle > 127) << np.arange(8)).sum())


def clicks(seconds: float, at: list[float], rate: int = RATE) -> np.ndarray:
    """Silence with a burst of 5 ms at some times: float32 (n,)."""
    wave = np.zeros(round(seconds * rate), np.float32)
    for time in at:
        start = round(time * rate)
        burst = np.sin(2 * np.pi * 1000 * np.arange(round(0.005 * rate)) / rate)
        wave[start : start + len(burst)] = 0.8 * burst[: len(wave) - start]
    return wave


def write_mp4(
    path: Path,
    frames: list[np.ndarray],
    times: list[float] | float = 10.0,
    sound: np.ndarray | None = None,
    rate: int = RATE,
    rotation: int = 0,
    start: float = 0.0,
    options: dict | None = None,
) -> Path:
    """Write H.264 frames at times (or so many a second), with AAC sound (n,) or (2, n) if given.

    ``start`` shifts the clock of both streams; ``rotation`` is counter-clockwise, in degrees.
    """
    if isinstance(times, float):
        times = [i / times for i in range(len(frames))]
    with av.open(str(path), 'w', options=options or {}) as file:
        video = file.add_stream('libx264', rate=25, options={'crf': '10', 'preset': 'ultrafast'})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = 'yuv420p'
        video.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            video.set_display_rotation(rotation)
        if sound is not None:
            sound = np.atleast_2d(sound)
            layout = 'mono' if len(sound) == 1 else 'stereo'
            audio = file.add_stream('aac', rate=rate, layout=layout)
        for image, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, 'rgb24')
            frame.pts, frame.time_base = round((start + time) * 1000), Fraction(1, 1000)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if sound is not None:
            if sound.size:
                samples = np.ascontiguousarray(sound, np.float32)
                frame = av.AudioFrame.from_ndarray(samples, format='fltp', layout=layout)
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = round(start * rate)
                file.mux(audio.encode(frame))
            file.mux(audio.encode(None))
    return path
