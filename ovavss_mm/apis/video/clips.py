# SPDX-License-Identifier: Apache-2.0
"""Cuts the stretches in which a name sounds out of a video, into files of their own."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import av

from .base import Picture, Source
from .listing import output_names
from .media import open_media
from .outputs import Outputs
from .overlay import SourceVideo
from .video_source import VideoSource

TABLE = 'clips.csv'
COLUMNS = ('file', 'name', 'start', 'end', 'seconds', 'how', 'pad')
PLAIN = ('mov', 'mp4', 'm4a', '3gp', '3g2', 'mj2')  # containers whose packets an mp4 file takes


def write_clips(folder: Path, source: Source, prediction: Mapping[str, Any], names: Sequence[str], pad: float) -> None:
    """Write a file for each stretch in which one of some names sounds, and ``clips.csv``, into a new folder.

    The table has a line a stretch, and one without a file for a name that never sounds.

    Args:
        folder (Path): it appears, in the place of an older one, when all files are complete.
        source (Source): the video.
        prediction (Mapping[str, Any]): with ``names``, of each the ``intervals`` in which it sounds, and ``duration``.
        names (Sequence[str]): whose stretches are cut out.
        pad (float): seconds before and after a stretch; stretches that touch then are one. Where a key frame is so
            near to the start of a cut, packets are copied from there on; else the stretch is encoded anew.

    Raises:
        OSError: a file cannot be written.
        ValueError: the source cannot be decoded.
    """
    try:
        keys = key_times(source) if isinstance(source, VideoSource) else []
        stems = dict(zip(names, output_names([dict(name=name) for name in names]), strict=True))
        with Outputs() as outputs:
            beside = outputs.add(folder)
            beside.mkdir()
            with open(beside / TABLE, 'w', newline='', encoding='utf-8', errors='backslashreplace') as file:
                table = csv.writer(file, lineterminator='\n')
                table.writerow(COLUMNS)
                for name in names:
                    heard = prediction['names'].get(name, {}).get('intervals', [])
                    cuts = padded(heard, pad, prediction['duration'])
                    rows: list[tuple] = cut_all(source, cuts, beside / stems[name], keys, pad) or [('', '', '', 0, '')]
                    table.writerows((file, name, *row, pad) for file, *row in rows)
    except av.FFmpegError as error:
        raise ValueError(f'{source.name} cannot be cut: {error.strerror}') from error


def read_clips(folder: Path) -> set[tuple[str, float]]:
    """The names and pads that clips were cut for; none where there are no clips."""
    try:
        with open(folder / TABLE, newline='', encoding='utf-8') as file:
            return {(row['name'], float(row['pad'])) for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError):
        return set()


def cut_all(
    source: Source, cuts: Sequence[Sequence[float]], stem: Path, keys: Sequence[float], pad: float
) -> list[tuple[str, float, float, float, str]]:
    """Cut the stretches [start, end] of one name out; gives their lines of the table, up to how they were cut."""
    pictures, rows = Pictures(source), []  # one pass for all
    for start, end in cuts:
        key = nearest(keys, start, max(pad, source.tolerance))
        start = start if key is None else round(max(key, 0.0), 4)
        path, how = cut(pictures, start, end, stem.parent / f'{stem.name}_{start:09.3f}-{end:09.3f}', key)
        rows.append((path.name, start, end, round(end - start, 4), how))
    return rows


def padded(intervals: Sequence[Sequence[float]], pad: float, duration: float) -> list[list[float]]:
    """Intervals [start, end] in seconds, longer by ``pad`` on both sides, joined where they touch."""
    joined: list[list[float]] = []
    for start, end in intervals:
        start, end = max(0.0, start - pad), min(duration, end + pad)
        if joined and start <= joined[-1][1]:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    return joined


def cut(pictures: 'Pictures', start: float, end: float, stem: Path, key: float | None) -> tuple[Path, str]:
    """Cut a stretch out, see :func:`write_clips`.

    Args:
        pictures (Pictures): of the source, read up to an earlier stretch.
        start (float): of the stretch, in seconds.
        end (float): of the stretch.
        stem (Path): of the file, without its kind.
        key (float, optional): time of a key frame from which packets are copied; else pictures are encoded anew.

    Returns:
        tuple: the file, and 'copied' or 'encoded'.
    """
    source = pictures.source
    if key is not None and isinstance(source, VideoSource):
        with suppress(ValueError, av.FFmpegError):  # of a kind that the container does not take
            return copy_packets(source, key, end, stem), 'copied'
    path = Path(f'{stem}.mp4')
    writer = SourceVideo(path, Stretch(pictures, start, end), max_rate=1000)
    try:
        writer.write_changed(lambda rgb: rgb, 0.0, None)
    finally:
        writer.close()
    return path, 'encoded'


class Pictures:
    """The pictures of a source, read once for several stretches that follow each other.

    Args:
        source (Source): of the pictures.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._coming = source.pictures()
        self._held: Picture | None = None

    def within(self, start: float, end: float) -> Iterator[Picture]:
        """Those that are shown between two times, in seconds; the clock of what is given begins with the first one."""
        tolerance = self.source.tolerance
        while (picture := self._held or next(self._coming, None)) is not None:
            self._held = picture if picture.end > end else None  # it is shown after it, too
            if picture.end > start + tolerance and picture.time < end - tolerance:
                yield Picture(max(picture.time - start, 0.0), min(picture.end, end) - start, picture.rgb)
            if self._held is not None:
                return


class Stretch(Source):
    """A part of a source, as a source whose clock begins with it.

    Args:
        pictures (Pictures): of the whole.
        start (float): where it begins, in seconds.
        end (float): where it ends.
    """

    def __init__(self, pictures: Pictures, start: float, end: float) -> None:
        source = pictures.source
        sound = source.sound
        if sound is not None:
            with sound.open() as container:
                sound = replace(sound, start=sound.start_on_clock(container) + start)
        super().__init__(source.name, sound)
        self.size, self.rate, self.duration = source.size, source.rate, end - start
        self._given = pictures.within(start, end)

    def pictures(self) -> Iterator[Picture]:
        """The pictures that are shown within it, once."""
        return self._given


# ------------------------------------------------------------------ packets as they are
def nearest(times: Sequence[float], wanted: float, most: float) -> float | None:
    """The time that is nearest to a wanted one, None if none is so near."""
    found = min(times, key=lambda time: abs(time - wanted), default=None)
    return found if found is not None and abs(found - wanted) <= most else None


def key_times(source: VideoSource) -> list[float]:
    """Times of the key frames of a video on its own clock, in seconds from its first frame; none if it was joined."""
    if any(shift for _, shift in source.shifts):
        return []
    with open_media(source.path) as container:
        stream = container.streams[source.index]
        packets = (packet for packet in container.demux(stream) if packet.is_keyframe and packet.pts is not None)
        return [float(packet.pts * stream.time_base) - source.start for packet in packets]


def copy_packets(source: VideoSource, start: float, end: float, stem: Path) -> Path:
    """Copy the packets of pictures and sound from a key frame at ``start`` to ``end`` seconds into a file.

    Raises:
        av.FFmpegError, ValueError: the file's kind does not take them; no file is left.
    """
    with open_media(source.path) as given:
        plain = bool(set(given.format.name.split(',')) & set(PLAIN))
        path = stem.parent / f'{stem.name}.{"mp4" if plain else "mkv"}'
        index = None if source.sound is None or source.sound.file != source.path else source.sound.index
        if source.sound is not None and index is None:
            raise ValueError('its sound has a file of its own')
        try:
            with av.open(str(path), 'w') as file:
                wanted = [given.streams[i] for i in (source.index, index) if i is not None]
                streams = {stream.index: file.add_stream_from_template(stream) for stream in wanted}
                first = start + source.start
                given.seek(round(first * av.time_base) + 1000, backward=True)
                ended = set()
                for packet in given.demux(wanted):
                    if packet.pts is None or packet.dts is None:
                        continue
                    base, length = packet.time_base, float((packet.duration or 0) * packet.time_base)
                    if float(packet.dts * base) >= end + source.start:
                        ended.add(packet.stream.index)
                        if len(ended) == len(wanted):
                            break
                        continue
                    if float(packet.pts * base) + length / 2 < first:
                        continue
                    packet.pts, packet.dts = (stamp - round(first / base) for stamp in (packet.pts, packet.dts))
                    packet.stream = streams[packet.stream.index]
                    file.mux(packet)
        except (ValueError, av.FFmpegError):
            path.unlink(missing_ok=True)
            raise
    return path
