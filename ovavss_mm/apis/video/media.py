# SPDX-License-Identifier: Apache-2.0
"""Opens untrusted media files with FFmpeg under limits of size, length and format."""

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import av
import numpy as np

# Container formats that are opened, whatever a file's name. Others, such as playlists, could make FFmpeg read further
# files or ask other computers.
FORMATS = (
    *('mov', 'mp4', 'm4a', '3gp', '3g2', 'mj2', 'matroska', 'webm', 'avi', 'mpeg', 'mpegts', 'mpegvideo', 'flv'),
    *('asf', 'ogg', 'mxf', 'dv', 'rm', 'wtv', 'ivf', 'nut', 'gif', 'apng', 'yuv4mpegpipe', 'h264', 'hevc', 'mjpeg'),
    *('wav', 'w64', 'aiff', 'au', 'caf', 'mp3', 'flac', 'ape', 'wv', 'tta', 'amr', 'aac', 'ac3', 'eac3', 'dts'),
)
READABLE = (
    'Videos as mp4, mov, mkv, webm, avi, mpg, ts, mts, wmv, flv, ogv, mxf or gif are read; others can be converted: '
    'ffmpeg -i FILE -c:v libx264 -c:a aac FILE.mp4'
)
MAX_PIXELS = 2**26  # of a frame, 8192 x 8192
MAX_RATIO = 100  # of the longer side of a frame to the shorter
MAX_SECONDS = 86_400  # of a video
MAX_STILL = 3600  # seconds without a new frame
MAX_SOUND_RATE = 768_000  # Hz
MAX_CHANNELS = 64
OPTIONS = {'format_whitelist': ','.join(FORMATS), 'protocol_whitelist': 'file', 'max_pixels': str(MAX_PIXELS)}
# Bytes of a packet, and before it: plain, of Blu-ray discs and camcorders (.MTS), with error correction.
TS_PACKETS = ((188, 0), (192, 4), (204, 0))
TS_MARK = 0x47  # of the first byte
_ASF_PROPERTIES = bytes.fromhex('a1dcab8c47a9cf118ee400c00c205365')
_OGG_PAGE = 65307  # bytes at most
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
    """The stream of moving pictures of a file, None if it has none.

    Covers and thumbnails are passed over. Of several, those that can be decoded come first, then those of more than one
    picture, then the one that is marked as default, then the largest, then the first.
    """
    still = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails

    def fitness(stream: av.video.stream.VideoStream) -> tuple:
        codec = stream.codec_context
        pixels = codec.width * codec.height if codec else 0
        default = bool(stream.disposition & av.stream.Disposition.default)
        return codec is not None, stream.frames != 1, default, pixels, -stream.index

    streams = [stream for stream in container.streams.video if not stream.disposition & still]
    return max(streams, key=fitness, default=None)


def has_pictures(path: str) -> bool:
    """Whether a file is one of moving pictures that can be read."""
    try:
        with open_media(path) as container:
            stream = picture_stream(container)
            return stream is not None and stream.codec_context is not None
    except (OSError, ValueError, av.FFmpegError):
        return False


def sound_stream(
    container: av.container.InputContainer, track: int | None = None, name: str = 'the file'
) -> av.audio.stream.AudioStream | None:
    """A sound track of a file, None if it has none that can be decoded.

    Args:
        container (av.container.InputContainer): the open file.
        track (int): its number, from 1. Defaults to one that can be decoded: no commentary or description of the
            pictures, where there is another; then one that is marked as default; then the first.
        name (str): of the file in messages.

    Raises:
        ValueError: there is no track of this number, or it cannot be decoded.
    """
    streams = container.streams.audio
    known = [stream for stream in streams if stream.codec_context is not None]
    if track is None:
        kind = av.stream.Disposition
        spoken = kind.comment | kind.visual_impaired | kind.descriptions
        return min(known, key=lambda s: (bool(s.disposition & spoken), not s.disposition & kind.default), default=None)
    if not isinstance(track, int) or not 1 <= track <= len(streams):
        raise ValueError(f'audio_track must be the number of a sound track, {name} has {len(streams)}; got {track!r}')
    if streams[track - 1] not in known:
        raise ValueError(f'sound track {track} of {name} is of a format that is not known')
    return streams[track - 1]


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


def announced_seconds(container: av.container.InputContainer, path: str) -> float | None:
    """Length in seconds that a file must have if nothing is missing, None where that cannot be told.

    An mp4 file that holds all the packets of its table of contents is whole, even where an edit list cuts a part out of
    it. Files of broadcasts announce nothing: FFmpeg guesses from their size.
    """
    kinds = container.format.name.split(',')
    if 'mp4' in kinds:
        stream = picture_stream(container)
        index = getattr(stream, 'index_entries', None)
        last = index[len(index) - 1] if index else None
        whole = last is not None and last.pos + last.size <= os.path.getsize(path)
        return None if whole or stream.duration is None else float(stream.duration * stream.time_base)
    stored = {'matroska', 'avi', 'asf'} & set(kinds) and container.duration is not None
    return container.duration / av.time_base if stored else None


def is_cut_off(container: av.container.InputContainer, path: str) -> bool:
    """Whether a file ends before it should by its packets (MPEG-TS), its header (AVI, ASF) or its last page (Ogg)."""
    kind, size = container.format.name, os.path.getsize(path)
    if kind == 'mpegts':
        return all(size % packet for packet, _ in TS_PACKETS)
    with open(path, 'rb') as file:
        head = file.read(2**16)
        tail = head if size <= len(head) else (file.seek(size - _OGG_PAGE), file.read())[1]
    if kind == 'avi':
        return 8 + int.from_bytes(head[4:8], 'little') > size
    if kind == 'asf' and (at := head.find(_ASF_PROPERTIES)) >= 0:
        broadcast = head[at + 88 : at + 89] != b'\x02'
        return not broadcast and int.from_bytes(head[at + 40 : at + 48], 'little') > size
    if kind == 'ogg' and (at := tail.rfind(b'OggS')) >= 0:
        count = tail[at + 26] if at + 26 < len(tail) else 255
        return at + 27 + count + sum(tail[at + 27 : at + 27 + count]) > len(tail)
    return False


def count_losses(path: str, pids: Iterable[int], joins: int = 0) -> int:
    """In how many places packets of some streams of an MPEG-TS file are broken or missing, by the counts they carry.

    Counts start anew where recordings were joined: ``joins`` times, or where that of the table of programs is 0 again.
    """
    content = np.memmap(path, np.uint8, 'r')
    for size, before in TS_PACKETS:
        heads = content[: len(content) // size * size].reshape(-1, size)[:, before : before + 4]  # (packets, 4)
        if (heads[:, 0] == TS_MARK).mean() > 0.5:
            break
    else:
        return 0
    stream_of = heads[:, 1].astype(np.uint16) % 32 * 256 + heads[:, 2]

    def counts(pid: int) -> np.ndarray:
        return heads[(stream_of == pid) & (heads[:, 3] & 16 > 0), 3] & 15  # packets without content are not counted

    programs = counts(0)
    joins = max(joins, int(((np.diff(programs) & 15 != 1) & (programs[1:] == 0)).sum()))
    missing = [int((np.diff(counts(pid)) & 15 > 1).sum()) - joins for pid in pids]  # a packet may be given twice
    return max(0, int((heads[:, 0] != TS_MARK).sum()), *missing)


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
