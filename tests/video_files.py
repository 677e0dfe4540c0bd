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
    pix_fmt: str = 'yuv420p',
    **codec: object,
) -> Path:
    """Write H.264 frames at times (or so many a second), with AAC sound (channels, n) or (n,) if given.

    ``start`` shifts the clock of both streams; ``rotation`` is counter-clockwise, in degrees; ``codec`` are attributes
    of the codec of the pictures. The name's ending is the format.
    """
    if isinstance(times, float):
        times = [i / times for i in range(len(frames))]
    with av.open(str(path), 'w', options=options or {}) as file:
        video = file.add_stream('libx264', rate=25, options={'crf': '10', 'preset': 'ultrafast'})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = pix_fmt
        video.codec_context.time_base = Fraction(1, 1000)
        for key, value in codec.items():
            setattr(video.codec_context, key, value)
        if rotation:
            video.set_display_rotation(rotation)
        if sound is not None:
            sound = np.atleast_2d(sound)
            layout = {1: 'mono', 2: 'stereo', 6: '5.1', 8: '7.1'}[len(sound)]
            audio = file.add_stream('aac', rate=rate, layout=layout)
        for image, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, 'rgb24')
            frame.pts, frame.time_base = round((start + time) * 1000), Fraction(1, 1000)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if sound is not None:
            if sound.size:
                samples = np.ascontiguousarray(sound.T, np.float32).reshape(1, -1)  # (channels, n) -> (1, n * channels)
                frame = av.AudioFrame.from_ndarray(samples, format='flt', layout=layout)
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = round(start * rate)
                file.mux(audio.encode(frame))
            file.mux(audio.encode(None))
    return path


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Have the pictures of an mp4 file shown so that a pixel at (x, y) goes to (a x + c y, b x + d y)."""
    content = bytearray(path.read_bytes())
    at = content.index(b'tkhd') + 44  # of the first track, that of the pictures
    one = 1 << 16
    content[at : at + 36] = np.array([a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30], '>i4').tobytes()
    path.write_bytes(content)
    return path


def remux(
    source: Path, path: Path, delay: dict[str, float] | None = None, kinds: tuple[str, ...] = ('video', 'audio')
) -> Path:
    """Put streams of a file into one of another format as they are; ``delay`` shifts kinds of streams, in seconds."""
    with av.open(str(source)) as given, av.open(str(path), 'w') as file:
        streams = {s.index: file.add_stream_from_template(s) for s in given.streams if s.type in kinds}
        for packet in given.demux():
            if packet.dts is None or packet.stream.index not in streams:
                continue
            shift = round((delay or {}).get(packet.stream.type, 0.0) / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = streams[packet.stream.index]
            file.mux(packet)
    return path
