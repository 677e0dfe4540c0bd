# SPDX-License-Identifier: Apache-2.0
"""Opens untrusted media files with FFmpeg under limits of size, length and format."""

import os
from collections.abc import Iterator
from typing import BinaryIO

import av

# Container formats that are opened, whatever a file's name. Others, such as playlists, could make FFmpeg read further
# files or ask other computers.
FORMATS = (
    *('mov', 'mp4', 'm4a', '3gp', '3g2', 'mj2', 'matroska', 'webm', 'avi', 'mpeg', 'mpegts', 'flv'),
    *('asf', 'ogg', 'wav', 'w64', 'aiff', 'caf', 'mp3', 'flac', 'aac', 'ac3', 'eac3'),
)
MAX_PIXELS = 2**26  # of a frame, 8192 x 8192
MAX_RATIO = 100  # of the longer side of a frame to the shorter
MAX_SECONDS = 86_400  # of a video
MAX_STILL = 3600  # seconds without a new frame
MAX_SOUND_RATE = 768_000  # Hz
MAX_CHANNELS = 64
OPTIONS = {'format_whitelist': ','.join(FORMATS), 'protocol_whitelist': 'file', 'max_pixels': str(MAX_PIXELS)}
_BOXES = (b'moov', b'trak', b'mdia', b'minf', b'stbl', b'moof', b'traf')  # boxes with boxes inside
_MAX_DEPTH, _MAX_BOXES = 8, 100_000


def open_media(file: str | BinaryIO) -> av.container.InputContainer:
    """Open a video or sound file.

    Args:
        file (str | BinaryIO): path of a local file, or an open one.

    Returns:
        av.container.InputContainer: the open file, a context manager.

    Raises:
        av.FFmpegError: another format, or the file cannot be read.
        ValueError: its table of contents lists more than the file can hold.
    """
    if isinstance(file, str):
        _check_tables(file)
        # the absolute path, as FFmpeg would take 'http:x' for an address
        return av.open(os.path.abspath(file), options=OPTIONS, metadata_errors='replace')
    options = {k: v for k, v in OPTIONS.items() if k != 'protocol_whitelist'}
    return av.open(file, options=options, metadata_errors='replace')


def picture_stream(container: av.container.InputContainer) -> av.video.stream.VideoStream | None:
    """The stream of moving pictures of a file, if there is one."""
    # FFmpeg gives the cover picture of a song as a video stream
    cover = av.stream.Disposition.attached_pic
    streams = container.streams.video
    return streams[0] if streams and not streams[0].disposition & cover else None


def sound_stream(container: av.container.InputContainer) -> av.audio.stream.AudioStream | None:
    """The sound stream of a file, if there is one."""
    return container.streams.audio[0] if container.streams.audio else None


def check_picture(name: str, width: int, height: int) -> None:
    """Check the size of frames.

    Raises:
        ValueError: no pixels, too many, or one side is too long for the other.
    """
    size = f'{name} has frames of {width} x {height} pixels'
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ValueError(f'{size}, at most {MAX_PIXELS:,} pixels are read')
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ValueError(f'{size}: a side may be up to {MAX_RATIO} times as long as the other')


def check_sound(name: str, rate: int, channels: int) -> None:
    """Check sample rate and number of channels of a sound.

    Raises:
        ValueError: out of range.
    """
    if not 1 <= rate <= MAX_SOUND_RATE or not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(
            f'the sound of {name} has {channels} channels of {rate} Hz; 1 to {MAX_CHANNELS} channels of up to '
            f'{MAX_SOUND_RATE} Hz are read'
        )


def has_all_packets(container: av.container.InputContainer, path: str) -> bool:
    """True if an mp4 file holds all the pictures that its table of contents lists.

    Where an edit list cuts a part out of such a file, its pictures end earlier than announced, and nothing is missing.
    False also where that cannot be told, as of other formats.
    """
    index = getattr(container.streams.video[0], 'index_entries', None)
    if 'mp4' not in container.format.name.split(',') or not index:
        return False
    last = index[len(index) - 1]
    return last.pos + last.size <= os.path.getsize(path)


# ------------------------------------------------------------------ tables of mp4 files
def _check_tables(path: str) -> None:
    """Raise ValueError if an mp4 file lists more samples than it has bytes: FFmpeg would allocate all of them."""
    size = os.path.getsize(path)
    with open(path, 'rb') as file:
        for kind, start in _walk(file, 0, size, 0, [0]):
            file.seek(start)
            head = file.read(12)
            count = 0
            if kind == b'stsz' and len(head) == 12:
                count = int.from_bytes(head[8:], 'big')
            elif kind == b'trun' and len(head) >= 8:
                count = int.from_bytes(head[4:8], 'big')
            if count > size or kind == b'cmov':
                what = f'{count:,} samples' if count else 'a packed table of contents'
                raise ValueError(f'{path} announces {what} in {size:,} bytes: it is damaged')


def _walk(file: BinaryIO, start: int, end: int, depth: int, seen: list[int]) -> Iterator[tuple[bytes, int]]:
    """Kind and start of the content of each box of an mp4 file; nothing of another format."""
    while start + 8 <= end and depth < _MAX_DEPTH:
        seen[0] += 1
        if seen[0] > _MAX_BOXES:
            return
        file.seek(start)
        head = file.read(16)
        length, kind, body = int.from_bytes(head[:4], 'big'), head[4:8], start + 8
        if length == 1:
            length, body = int.from_bytes(head[8:16], 'big'), start + 16
        elif length == 0:
            length = end - start
        if length < body - start or len(head) < 8:
            return
        yield kind, body
        if kind in _BOXES:
            yield from _walk(file, body, min(start + length, end), depth + 1, seen)
        start += length
