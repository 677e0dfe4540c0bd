# SPDX-License-Identifier: Apache-2.0
"""When each name sounds: WebVTT and SRT for players, RTTM, and label tracks of Audacity."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .base import Export

if TYPE_CHECKING:
    from ..apis.video.request import LabelledFrame


class _Intervals(Export):
    """A text file made of the timeline's intervals of names."""

    follows = False

    def write(self, frame: 'LabelledFrame') -> None:
        """Nothing: the timeline joins the frames."""

    def finish(self, footer: dict[str, Any]) -> list[str]:
        """Write the file."""
        times = {name: heard['intervals'] for name, heard in footer['names'].items()}
        spans = [(*span, ' '.join(name.split())) for name in self.names for span in times.get(name, ())]
        self.path.write_text(self.text([span for span in spans if span[0] < span[1]]), encoding='utf-8')
        return []

    def text(self, spans: list[tuple[float, float, str]]) -> str:
        """The content of the file, of intervals in seconds and their names, in the order of the names."""
        raise NotImplementedError


# ------------------------------------------------------------------ subtitles
class WebVtt(_Intervals):
    """WebVTT, with a cue wherever the names that sound change: a line "[dog]" for each of them."""

    suffix = '.vtt'

    def text(self, spans: list[tuple[float, float, str]]) -> str:
        """Cues, with the letters escaped that stand for markup."""
        cues = [
            f'{clock(start)} --> {clock(end)}\n' + '\n'.join(f'[{escape(name)}]' for name in names)
            for start, end, names in cues_of(spans)
        ]
        return '\n\n'.join(['WEBVTT', *cues]) + '\n'


class SubRip(_Intervals):
    """SRT, of the same cues as WebVTT; it has no way to escape letters."""

    suffix = '.srt'

    def text(self, spans: list[tuple[float, float, str]]) -> str:
        """Numbered cues."""
        return '\n'.join(
            f'{i}\n{clock(start, ",")} --> {clock(end, ",")}\n' + ''.join(f'[{name}]\n' for name in names)
            for i, (start, end, names) in enumerate(cues_of(spans), 1)
        )


def cues_of(spans: list[tuple[float, float, str]]) -> Iterator[tuple[int, int, list[str]]]:
    """Times without a change in milliseconds, in order, with the names that sound; players show one cue at a time."""
    cues = [(round(start * 1000), round(end * 1000), name) for start, end, name in spans]
    changes: dict[int, list[tuple[bool, str]]] = {}
    for start, end, name in cues:
        changes.setdefault(start, []).append((True, name))
        changes.setdefault(end, []).append((False, name))
    order = {name: i for i, (_, _, name) in enumerate(cues)}
    sounding: set[str] = set()
    times = sorted(changes)
    for start, end in zip(times, times[1:], strict=False):
        sounding -= {name for starts, name in changes[start] if not starts}
        sounding |= {name for starts, name in changes[start] if starts}
        if sounding:
            yield start, end, sorted(sounding, key=order.__getitem__)


def clock(time: int, point: str = '.') -> str:
    """A time in milliseconds as hours:minutes:seconds, with three digits behind the point."""
    seconds, rest = divmod(time, 1000)
    return f'{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}'


def escape(text: str) -> str:
    """A text for WebVTT."""
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')


# ------------------------------------------------------------------ lists of intervals
class Rttm(_Intervals):
    """RTTM: a line an interval, with the name where others have the speaker.

    Fields are separated by blanks; those of names, and ``%`` and ``"``, are escaped as in addresses: ``baby%20crying``.
    """

    suffix = '.rttm'

    def text(self, spans: list[tuple[float, float, str]]) -> str:
        """Lines, by time."""
        return ''.join(
            f'SPEAKER {field(self.origin.name)} 1 {start:.4f} {end - start:.4f} <NA> <NA> {field(name)} <NA> <NA>\n'
            for start, end, name in sorted(spans, key=lambda span: span[:2])
        )


def field(text: str) -> str:
    """A text as a field of RTTM."""
    return re.sub(r'[\s%"]', lambda found: quote(found[0]), text)


class Audacity(_Intervals):
    """A label track of Audacity: start, end and name, with tabs between them."""

    suffix = '.txt'

    def text(self, spans: list[tuple[float, float, str]]) -> str:
        """Lines, by time."""
        return ''.join(f'{start:.6f}\t{end:.6f}\t{name}\n' for start, end, name in sorted(spans, key=lambda s: s[:2]))
