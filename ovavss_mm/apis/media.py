# SPDX-License-Identifier: Apache-2.0
"""Opens files with FFmpeg that nobody vouches for: what they say of themselves is bounded first."""

import os
from collections.abc import Iterator
from typing import BinaryIO

import av

# Kinds of files that are opened, whatever their names are. Others, such as playlists, could make FFmpeg read further
# files or ask other computers.
FORMATS = (
    *('mov', 'mp4', 'm4a', '3gp', '3g2', 'mj2', 'matroska', 'webm', 'avi', 'mpeg', 'mpegts', 'flv'),
    *('asf', 'ogg', 'wav', 'w64', 'aiff', 'caf', 'mp3', 'flac', 'aac', 'ac3', 'eac3'),
)
MAX_PIXELS = 2**26  # of a frame, 8192 x 8192
MAX_RATIO = 100  # of the longer side of a frame to the shorter
MAX_SECONDS = 86_400  # a video may have
MAX_STILL = 3600  # seconds without a new frame
MAX_SOUND_RATE = 768_000  # Hz
OPTIONS = {'format_whitelist': ','.join(FORMATS), 'protocol_whitelist': 'file', 'max_pixels': str(MAX_PIXELS)}
_BOXES = (b'moov', b'trak', b'mdia', b'minf', b'stbl', b'moof', b'traf')  # that have boxes in them
_DEPTH, _MOST_BOXES = 8, 100_000


def open_media(file: str | BinaryIO) -> av.container.InputContainer:
    """Open a video or sound file.

    Args:
        file: path of a local file, or an open one.

    Raises:
        av.FFmpegError: it is of none of the kinds, or cannot be read.
        ValueError: its table of contents lists more than the file can hold.
    """
    if isinstance(file, str):
        _check_tables(file)
        # a path that looks like an address is none
        return av.open(os.path.abspath(file), options=OPTIONS, metadata_errors='replace')
    options = {k: v for k, v in OPTIONS.items() if k != 'protocol_whitelist'}
    return av.open(file, options=options, metadata_errors='replace')


def check_picture(name: str, width: int, height: int) -> None:
    """Check the size of frames.

    Raises:
        ValueError: too many pixels, none, or one side is too long for the other.
    """
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ValueError(f'{name} has frames of {width} x {height} pixels, at most {MAX_PIXELS:,} pixels are read')
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ValueError(
            f'{name} has frames of {width} x {height} pixels: a side may be up to {MAX_RATIO} times as long as '
            'the other'
        )


def check_sound(name: str, rate: int, channels: int) -> None:
    """Check the kind of a sound.

    Raises:
        ValueError: no rate, one that is too high, or no or too many channels.
    """
    if not 1 <= rate <= MAX_SOUND_RATE or not 1 <= channels <= 64:
        raise ValueError(
            f'the sound of {name} has {channels} channels of {rate} Hz; 1 to 64 channels of up to '
            f'{MAX_SOUND_RATE} Hz are read'
        )


def has_all_packets(container: av.container.InputContainer, path: str) -> bool:
    """Whether an mp4 file holds all the pictures that its table of contents lists.

    Where a part was cut out of such a file by its edit list, the pictures end earlier than announced, and all is well.

    Args:
        container: the open file.
        path: of the file.

    Returns:
        False if it does not, or if that cannot be told, as of other kinds of files.
    """
    index = getattr(container.streams.video[0], 'index_entries', None)
    if 'mp4' not in container.format.name.split(',') or not index:
        return False
    last = index[len(index) - 1]
    return last.pos + last.size <= os.path.getsize(path)


# ------------------------------------------------------------------ tables of mp4 files
def _check_tables(path: str) -> None:
    """Raise ValueError if an mp4 file lists more samples than it has bytes: FFmpeg would make room for all of them."""
    size = os.path.getsize(path)
    with open(path, 'rb') as file:
        for kind, start, _ in _walk(file, 0, size, 0, [0]):
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


def _walk(file: BinaryIO, start: int, end: int, depth: int, seen: list[int]) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each box of an mp4 file; nothing of a file of another kind."""
    while start + 8 <= end and depth < _DEPTH:
        seen[0] += 1
        if seen[0] > _MOST_BOXES:
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
        stop = min(start + length, end)
        yield kind, body, stop
        if kind in _BOXES:
            yield from _walk(file, body, stop, depth + 1, seen)
        start += length
