# SPDX-License-Identifier: Apache-2.0
"""The timeline as HTML."""

import re

from web.chart import escape, message_html, timeline_html

from ovavss_mm.apis.video.timeline import ClassTimeline
from ovavss_mm.models.segmentors.windows import FrameClass, FrameObject
from ovavss_mm.visualization.name_colors import name_palette

EVIL = ('<script>x()</script>', '"><img src=x onerror=x()>', '${x()} {{x}}', '../../etc/passwd')


def prediction(names, seconds, fps=1, duration=None):
    """Of a video in which name i sounds in the frames that ``seconds`` lists for it."""
    timeline = ClassTimeline(names, fps)
    count = max(max(s, default=0) for s in seconds) + 1
    frames = [
        timeline.add(t / fps, {i: FrameClass(0.1, 0.5, 0.9) for i in range(len(names)) if t in seconds[i]})
        for t in range(count)
    ]
    duration = duration or count / fps
    return dict(vocabulary=list(names), fps=fps, frames=frames, duration=duration, **summaries(timeline, duration))


def summaries(timeline, duration):
    """What a prediction has of a timeline."""
    return {
        key: getattr(timeline, method)(duration)
        for key, method in (('names', 'summary'), ('objects', 'objects'), ('silent', 'silent'))
    }


def bars(html):
    """Left and width of each bar in percent, and its opacity."""
    found = re.findall(r'<b style="left:([\d.]+)%;width:([\d.]+)%;.*?opacity:([\d.]+)"', html)
    return [tuple(map(float, bar)) for bar in found]


def test_a_bar_a_labelled_frame():
    html = timeline_html(prediction(['dog', 'cat'], [[0, 3], [1]]))
    # a score of 0.5 is half way from the faintest; the name that sounds longest comes first
    assert bars(html) == [(0, 25, 0.62), (75, 25, 0.62), (25, 25, 0.62)]
    assert html.index('<span>dog</span>') < html.index('<span>cat</span>')
    assert '<div class="ov-sum">2 s</div>' in html and 'sounds at seconds 0 to 1, 3 to 4' in html
    for name, color in zip(('dog', 'cat'), name_palette(['dog', 'cat'])[1:].tolist(), strict=True):
        assert 'rgb({},{},{})'.format(*color) in html, name


def test_objects_of_a_name_have_strips_of_their_own():
    """Where there are several."""
    timeline = ClassTimeline(['dog', 'cat'])
    frames = []
    for t, ids in enumerate(((1, 3), (2,), (1, 2))):
        objects = [FrameObject(0.1, 0.5, 0.9, i, i // 3, (0, 0, 1, 1), 1 + i % 3 // 2) for i in ids]
        frames.append(timeline.add(t, {x.label: x for x in objects}, objects))
    record = dict(vocabulary=['dog', 'cat'], fps=1, frames=frames, duration=3)
    html = timeline_html(record | summaries(timeline, 3))
    assert re.findall('<span>([^<]*)</span></div>', html) == ['dog', 'dog 1', 'dog 2', 'cat']
    assert 'dog 1 sounds at seconds 0 to 1, 2 to 3' in html and 'dog 2 sounds at seconds 1 to 3' in html
    assert len(bars(html)) == 3 + 2 + 2 + 1


def test_of_many_objects_the_longest_have_strips():
    """Ten, of which the first two are there least."""
    timeline = ClassTimeline(['dog'])
    frames = []
    for t in range(3):
        objects = [FrameObject(0.1, 0.5, 0.9, i, 0, (0, 0, 1, 1), i) for i in range(1 if t == 0 else 3, 11)]
        frames.append(timeline.add(t, {0: objects[0]}, objects))
    record = dict(vocabulary=['dog'], fps=1, frames=frames, duration=3)
    html = timeline_html(record | summaries(timeline, 3))
    shown = ['dog', *(f'dog {i}' for i in range(3, 11)), 'and 2 more']
    assert re.findall('<span>([^<]*)</span></div>', html) == shown and len(bars(html)) == 3 + 8 * 3


def test_the_last_bar_ends_with_the_video():
    html = timeline_html(prediction(['dog'], [[0, 2]], fps=2, duration=1.25))
    assert [bar[:2] for bar in bars(html)] == [(0, 40), (80, 20)]


def test_names_that_are_not_heard():
    html = timeline_html(prediction(['dog', 'cat', 'hen'], [[0], [], []]))
    assert 'Not heard: cat, hen</p>' in html
    html = timeline_html(prediction([f'n{i}' for i in range(50)], [[]] * 50))
    assert 'None of the names is heard: n0, ' in html and 'n29 and 20 more</p>' in html
    assert html.count('ov-strip') == 1 and silent_bars(html) == [(0, 100)]


def silent_bars(html):
    """Left and width in percent of the bars of when nothing visible sounds."""
    found = re.findall(r'<b style="left:([\d.]+)%;width:([\d.]+)%;[^"]*gradient[^"]*" title="[^"]*nothing', html)
    return [tuple(map(float, bar)) for bar in found]


def test_silence_has_the_last_strip():
    """Hatched, with its seconds, and read aloud as the others; only where there is some."""
    html = timeline_html(prediction(['dog', 'cat'], [[1, 4], [4]], fps=2))
    assert silent_bars(html) == [(0, 20), (40, 40)]
    assert re.findall('<span>([^<]*)</span></div>', html) == ['dog', 'cat', 'nothing visible sounds']
    assert 'role="img" aria-label="nothing visible sounds at seconds 0 to 0.5, 1 to 2"' in html
    assert '<div class="ov-sum">1.5 s</div>' in html and 'title="1 to 2 s: nothing visible sounds"' in html
    assert 'nothing visible' not in timeline_html(prediction(['dog'], [[0, 1]]))


def test_a_name_may_be_the_words_for_silence():
    html = timeline_html(prediction(['nothing visible sounds', '<b>'], [[0], [2]]))
    assert html.count('<span>nothing visible sounds</span>') == 2 and silent_bars(html) == [(33.33, 33.33)]
    assert '<b>' not in html and 'aria-label="&lt;b&gt; sounds at seconds 2 to 3"' in html


def test_names_are_shown_and_not_obeyed():
    for seconds in ([0], []):
        html = timeline_html(prediction(EVIL, [seconds] * len(EVIL)))
        assert '<script' not in html and '<img' not in html
        assert '${' not in html and '{{' not in html
        assert all(escape(name) in html for name in EVIL)
    assert '<script' not in message_html(EVIL[0], 'error', notes=EVIL)


def test_messages_are_read_aloud():
    assert 'role="alert"' in message_html('no', 'error')
    assert 'role="status"' in message_html('yes') and '<ul>' not in message_html('yes')
