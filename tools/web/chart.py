# SPDX-License-Identifier: Apache-2.0
"""The timeline and messages as HTML; names and messages are escaped."""

import html
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ovavss_mm.apis.video.timeline import NOTHING_SOUNDS, listed_objects
from ovavss_mm.utils.text import shorten
from ovavss_mm.visualization.name_colors import name_palette

_TICKS = 6  # labels on the axis, about
_STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600)  # s
_FAINTEST = 0.25  # opacity of a sound score of 0
_HATCH = 'background:repeating-linear-gradient(45deg,#8888 0 3px,#8883 3px 7px)'
_MAX_SILENT = 30  # names that are not heard, in the line below


def escape(text: object) -> str:
    """Text as HTML that shows it, in attributes and in Gradio's templates, too."""
    codes = {ord(letter): f'&#{ord(letter)};' for letter in '${}`'}
    return html.escape(str(text), quote=True).translate(codes)


def timeline_html(prediction: dict[str, Any]) -> str:
    """A strip for each class that is heard, over the seconds of the video, from the inferencer's prediction.

    Below a class of several objects are strips of those that sound longest. The clearer a bar, the higher the sound
    score. The last strip is of when nothing visible sounds. Names that are not heard follow in a line.
    """
    duration = max(prediction['duration'], 1 / prediction['fps'])
    vocabulary, heard = prediction['vocabulary'], prediction['names']
    colors = dict(zip(vocabulary, name_palette(vocabulary)[1:].tolist(), strict=True))
    marks = defaultdict(list)  # by name, and by id of an object: time and figures
    for frame in prediction['frames']:
        for key, what in (*frame['names'].items(), *((what['id'], what) for what in frame['objects'])):
            marks[key].append((frame['time'], what))
    rows, step = [], 1 / prediction['fps']
    for name, record in heard.items():
        rows.append(_row(name, colors[name], record, marks[name], step, duration))
        objects, more = listed_objects(prediction, name)
        for found in objects:
            tag = f'{name} {found["number"]}'
            rows.append(_row(tag, colors[name], found, marks[found['id']], step, duration))
        if more:
            rows.append(f'<div class="ov-name"><i></i><span>and {more} more</span></div><div></div><div></div>')
    if prediction['silent']['intervals']:
        rows.append(_silent_row(prediction['silent'], duration))
    body = ''.join(rows) + _axis(duration) if rows else ''
    silent = [name for name in vocabulary if name not in heard]
    lead = 'Not heard' if heard else 'None of the names is heard'
    listed = shorten(map(escape, silent), _MAX_SILENT)
    return (
        f'<div class="ov-chart" data-seconds="{duration:g}" role="group" aria-label="Which name sounds when">'
        f'{body}</div>' + (f'<p class="ov-silent">{lead}: {listed}</p>' if silent else '')
    )


def _row(
    name: str, color: Sequence[int], record: dict[str, Any], marks: Sequence[tuple], step: float, duration: float
) -> str:
    """The strip of a class or an object, with a bar for each (time, figures) of a labelled frame that has it."""
    background, bars = 'background:rgb({},{},{})'.format(*color), ''
    for start, what in marks:
        end = min(start + step, duration)
        opacity = _FAINTEST + (1 - _FAINTEST) * what['sound']
        title = (
            f'{start:g} to {end:g} s: sound score {what["sound"]:.2f}, class score {what["score"]:.2f}, '
            f'{what["area"]:.1%} of the picture'
        )
        bars += _bar(start, end, duration, f'{background};opacity:{opacity:.2f}', title)
    return _strip(name, f'{name} sounds', background, bars, record)


def _silent_row(record: dict[str, Any], duration: float) -> str:
    """The strip of the labelled frames without a label."""
    spans = record['intervals']
    bars = [_bar(*span, duration, _HATCH, f'{span[0]:g} to {span[1]:g} s: {NOTHING_SOUNDS}') for span in spans]
    return _strip(NOTHING_SOUNDS, NOTHING_SOUNDS, _HATCH, ''.join(bars), record)


def _bar(start: float, end: float, duration: float, style: str, title: str) -> str:
    """A bar from ``start`` to ``end`` of ``duration`` seconds."""
    left, width = 100 * start / duration, 100 * (end - start) / duration
    return f'<b style="left:{left:.2f}%;width:{width:.2f}%;{style}" title="{title}"></b>'


def _strip(name: str, what: str, style: str, bars: str, record: dict[str, Any]) -> str:
    """Name, bars and seconds of a record; ``what`` is said of its intervals aloud."""
    spans = ', '.join(f'{start:g} to {end:g}' for start, end in record['intervals'])
    shown = escape(name)
    return (
        f'<div class="ov-name" title="{shown}"><i style="{style}"></i><span>{shown}</span></div>'
        f'<div class="ov-strip" role="img" aria-label="{escape(what)} at seconds {spans}">{bars}<u></u></div>'
        f'<div class="ov-sum">{record["seconds"]:g} s</div>'
    )


def _axis(duration: float) -> str:
    """Seconds below the strips."""
    step = next((s for s in _STEPS if duration / s <= _TICKS), _STEPS[-1])
    ticks = [i * step for i in range(int(duration / step + 1e-6) + 1)]
    marks = ''.join(f'<span style="left:{100 * t / duration:.2f}%">{t}</span>' for t in ticks)
    return f'<div></div><div class="ov-axis" aria-hidden="true">{marks}</div><div class="ov-sum">s</div>'


def message_html(text: str, kind: str = 'info', notes: Sequence[str] = ()) -> str:
    """A message on the page, ``kind`` being 'info', 'wait', 'done' or 'error', with further lines."""
    role = 'alert' if kind == 'error' else 'status'
    lines = ''.join(f'<li>{escape(note)}</li>' for note in notes)
    notes_html = f'<ul>{lines}</ul>' if lines else ''
    return f'<div class="ov-message ov-{kind}" role="{role}"><p>{escape(text)}</p>{notes_html}</div>'
