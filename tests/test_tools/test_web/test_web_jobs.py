# SPDX-License-Identifier: Apache-2.0
"""One job of the page."""

import json
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import clicks, numbered, write_mp4
from web.jobs import Labeller
from web.limits import Limits, Refused
from web.workspace import Cancelled, Ticket


@pytest.fixture
def labeller(inferencer):
    return Labeller(inferencer, Limits(seconds=20))


@pytest.fixture
def run(labeller, tmp_path):
    """Run a job in an empty folder; ``seen`` are its reports."""

    def run(path, names='dog, cat', ticket=None, report=None, **settings):
        folder = tmp_path / 'job'
        folder.mkdir(exist_ok=True)
        report = report or (lambda *what: run.seen.append(what))
        path = None if path is None else str(path)
        return labeller.run(path, names, folder, ticket or Ticket(), report, **settings)

    run.seen, run.folder = [], tmp_path / 'job'
    return run


@pytest.fixture
def video(tmp_path) -> Path:
    return write_mp4(tmp_path / 'my clip.mp4', numbered(70), sound=clicks(7, [1.0]))


def files(folder):
    return sorted(path.name for path in folder.rglob('*') if path.is_file())


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_result(run, video, tmp_path):
    result = run(video, 'dog, <b>/../x', fps=2, opacity=0.5)
    assert files(run.folder) == ['my clip_labelled.json', 'my clip_labelled.mp4']
    with av.open(result.video) as file:
        assert file.streams.audio and file.streams.video[0].frames == 70
    assert json.loads(Path(result.timeline).read_text(encoding='utf-8')) == result.prediction
    assert result.prediction['video'] == 'my clip.mp4' and len(result.prediction['frames']) == 14
    assert str(tmp_path) not in Path(result.timeline).read_text(encoding='utf-8')
    assert video.is_file()
    assert [seconds for seconds, _, _ in run.seen] == [(i + 1) / 2 for i in range(14)]
    assert run.seen[-1][1] == pytest.approx(7, abs=0.2) and run.seen[-1][2] == 0


@pytest.mark.parametrize('frames', [1, 6])
def test_cancelled_while_it_runs(run, video, frames):
    ticket = Ticket()

    def report(seconds, *_):
        if seconds >= frames:
            ticket.cancel()

    with pytest.raises(Cancelled):
        run(video, ticket=ticket, report=report)
    assert files(run.folder) == []


def test_cancelled_while_it_waits(run, labeller, video):
    """One job at a time; one that waits can be cancelled, too."""
    ticket, errors = Ticket(), []

    def wait():
        with pytest.raises(Cancelled) as error:
            run(video, ticket=ticket)
        errors.append(error.type)

    with labeller._lock:
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        ticket.cancel()
    thread.join(30)
    assert errors == [Cancelled] and run.seen == [] and files(run.folder) == []


def test_bad_input_is_refused_in_words(run, video, tmp_path):
    sound = tmp_path / 'sound.mp4'
    with av.open(str(sound), 'w') as file:
        stream = file.add_stream('aac', rate=16000, layout='mono')
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), 'fltp', 'mono')
        frame.sample_rate, frame.pts = 16000, 0
        file.mux([*stream.encode(frame), *stream.encode(None)])
    long = write_mp4(tmp_path / 'long.mp4', numbered(30), 1.0)
    cases = (
        (None, {}, 'Upload or record a video first'),
        (sound, {}, '^sound.mp4 has no picture stream'),
        (long, {}, '^long.mp4 is 29 s long, this page takes 20 s'),
        (video, dict(names='x, X'), 'given twice'),
        (video, dict(fps=1000), r'fps .*1 to 60, got 1000'),
        (video, dict(opacity=7.0), r'opacity must be from 0 to 1, got 7.0'),
    )
    for path, options, message in cases:
        with pytest.raises(Refused, match=message) as error:
            run(path, **options)
        assert error.value.video == (path in (sound, long))
        assert str(tmp_path) not in str(error.value) and files(run.folder) == []


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_a_video_that_is_longer_than_it_says(run, labeller, video, monkeypatch):
    """The length in a file is a claim: the frames are counted."""
    labeller.limits = Limits(seconds=3)
    monkeypatch.setattr(Limits, 'check_source', lambda *_: None)
    with pytest.raises(Refused, match='my clip.mp4 is more than 4 s long'):
        run(video)
    assert files(run.folder) == []


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_what_is_odd_is_said(run, tmp_path):
    silent = write_mp4(tmp_path / 'silent.mp4', numbered(20), sound=np.zeros(0, np.float32))
    whole = write_mp4(tmp_path / 'whole.mp4', numbered(60, (96, 128)), options={'movflags': 'faststart'})
    cut = tmp_path / 'cut.mp4'
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    assert 'silence' in ' '.join(run(silent).prediction['notes'])
    notes = ' '.join(run(cut).prediction['notes'])
    assert 'cut.mp4 is damaged or incomplete' in notes and str(tmp_path) not in notes
