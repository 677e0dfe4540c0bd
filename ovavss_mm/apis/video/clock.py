# SPDX-License-Identifier: Apache-2.0
"""One clock for all packets of a media file, also where its own restarts or jumps."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import av

from .media import MAX_STILL, count_losses

RESTART_SECONDS = 1.0  # a clock that goes back by more has been started anew: recordings that were joined
MISSING_SECONDS = 0.5  # without picture and sound, before more of both: there, packets are missing
JUMP_SECONDS = 10.0  # without any packet, after which a live clock has jumped
# Formats of broadcasts and streams, whose clocks may jump; in others a gap is meant, such as between slides.
LIVE_FORMATS = ('mpegts', 'mpeg', 'flv')


@dataclass
class Clock:
    """What the packets of a file say of time, in seconds on one clock that never jumps.

    Attributes:
        shifts (dict[int, list[tuple[int, float]]]): by stream index, ascending: from this packet of the stream on, so
            many seconds are added to its time stamps.
        spans (dict[int, tuple[float, float]]): by stream index, when its first packet begins and its last one ends.
        jumps (list[float]): when the file's own clock restarts or jumps.
        damage (str | None): what is missing or broken.
    """

    shifts: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    spans: dict[int, tuple[float, float]] = field(default_factory=dict)
    jumps: list[float] = field(default_factory=list)
    damage: str | None = None


@dataclass
class _Stream:
    """A stream while its packets are read: ``parts`` holds (number of the first packet, part of the file)."""

    kind: str  # 'video', 'audio', 'subtitle', ...
    parts: list[tuple[int, int]] = field(default_factory=list)
    spans: dict[int, tuple[float, float]] = field(default_factory=dict)  # by part of the file, on the file's clock
    count: int = 0
    next: float = 0.0  # when the next packet is due
    gap: tuple[float, float] = (0.0, 0.0)  # the last stretch without a packet
    broken: list[float] = field(default_factory=list)  # times of packets that are incomplete or missing

    @property
    def part(self) -> int:
        """The part of the file that is read, -1 before the first packet."""
        return self.parts[-1][1] if self.parts else -1

    def cover(self, start: float, end: float) -> None:
        """Note what a packet covers."""
        first, last = self.spans.get(self.part, (start, end))
        self.spans[self.part] = (min(first, start), max(last, end))


def read_clock(container: av.container.InputContainer) -> Clock:
    """Read the time stamps of all packets of a file, from its start to its end; nothing is decoded.

    A file of several recordings has a part for each of them. The streams of a part stay as they are to each other, and
    each part begins where the one before it ends.
    """
    streams: dict[int, _Stream] = {}
    limit = JUMP_SECONDS if container.format.name in LIVE_FORMATS else float(MAX_STILL)
    damage = None
    try:
        for packet in container.demux():
            stream = streams.setdefault(packet.stream.index, _Stream(packet.stream.type))
            _read(packet, stream, streams.values(), limit)
            stream.count += packet.size > 0
    except av.FFmpegError as error:
        damage = f'it could not be read to its end ({error.strerror})'
    clock = _join(streams, damage)
    broken = [time for stream in streams.values() for time in stream.broken]
    if container.format.name == 'mpegts':
        # there FFmpeg takes the place where recordings are joined for damage, and does not see sound that is lost
        pids = [stream.id for stream in container.streams]
        if places := count_losses(container.name, pids, len(clock.jumps)):
            clock.damage = damage or f'its packets are incomplete or missing (number of places: {places})'
    elif broken:
        count = f'{len(broken)} of its packets are' if len(broken) > 1 else 'one of its packets is'
        clock.damage = damage or f'{count} incomplete or missing, first at {min(broken):.2f} s of its clock'
    return clock


def _read(packet: av.Packet, stream: _Stream, streams: Iterable[_Stream], limit: float) -> None:
    """Take note of a packet."""
    stamp = packet.pts if packet.dts is None else packet.dts
    if stamp is None or packet.is_discard:
        return
    time = float(stamp * packet.time_base)
    length = min(float((packet.duration or 0) * packet.time_base), float(MAX_STILL))
    top = max(other.part for other in streams)
    start = time if packet.pts is None else float(packet.pts * packet.time_base)
    if stream.parts and packet.dts is None and not packet.is_keyframe:
        # without decoding times only key frames tell, as others may come in another order than they are shown in
        stream.cover(start, start + length)
        return
    if not stream.parts:
        # of streams that are interleaved, one that begins far behind the others belongs to the next recording
        due = max((other.next for other in streams if other.part == top >= 0), default=time)
        behind = limit == JUMP_SECONDS and time < due - RESTART_SECONDS
        stream.parts.append((0, max(top, 0) + behind))
        stream.next = time
    elif _jumps(time, stream, streams, limit):
        stream.parts.append((stream.count, top if stream.part < top else top + 1))
        stream.next = time
    if packet.is_corrupt or _missing_before(time, stream, streams):
        stream.broken.append(min(time, stream.next))
    stream.next = max(stream.next, time + length)
    stream.cover(start, start + length)


def _missing_before(time: float, stream: _Stream, streams: Iterable[_Stream]) -> bool:
    """Whether picture and sound have both stopped for a while: some formats pass over damage without a word."""
    if time <= stream.next + MISSING_SECONDS:
        return False
    stream.gap = start, end = stream.next, time
    gaps = [other.gap for other in streams if {other.kind, stream.kind} == {'video', 'audio'}]
    return any(min(end, last) - max(start, first) > MISSING_SECONDS for first, last in gaps)


def _jumps(time: float, stream: _Stream, streams: Iterable[_Stream], limit: float) -> bool:
    """Whether the clock restarts or jumps at a packet."""
    if time < stream.next - RESTART_SECONDS:
        return True
    beside = [other.next for other in streams if other.part == stream.part]
    return time > max(beside) + limit or (stream.part < max(s.part for s in streams) and time > stream.next + limit)


def _join(streams: dict[int, _Stream], damage: str | None) -> Clock:
    """Put the parts of a file one after the other."""
    clock, end = Clock(damage=damage), None
    shifts: dict[int, float] = {}
    for part in sorted({part for stream in streams.values() for part in stream.spans}):
        spans = [stream.spans[part] for stream in streams.values() if part in stream.spans]
        start = min(first for first, _ in spans)
        shifts[part] = 0.0 if end is None else end - start
        if end is not None:
            clock.jumps.append(end)
        end = max(last for _, last in spans) + shifts[part]
    for index, stream in streams.items():
        clock.shifts[index] = [(number, shifts.get(part, 0.0)) for number, part in stream.parts]
        if stream.spans:
            first, last = min(stream.spans), max(stream.spans)
            clock.spans[index] = (stream.spans[first][0] + shifts[first], stream.spans[last][1] + shifts[last])
    return clock


def shifted_packets(
    container: av.container.InputContainer, stream: av.stream.Stream, shifts: Iterable[tuple[int, float]] = ()
) -> Iterator[av.Packet]:
    """Packets of a stream on the clock that :func:`read_clock` made: ``shifts`` are those of the stream."""
    waiting, shift, count = list(shifts), 0, 0
    for packet in container.demux(stream):
        while waiting and waiting[0][0] <= count:
            shift = round(waiting.pop(0)[1] / packet.time_base)
        if shift and packet.pts is not None:
            packet.pts += shift
        if shift and packet.dts is not None:
            packet.dts += shift
        count += packet.size > 0
        yield packet
