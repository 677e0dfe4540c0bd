# SPDX-License-Identifier: Apache-2.0
"""Jobs of the page, and the files that its tabs hold."""

import json
import os
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import clicks, numbered, write_mp4
from web.limits import InputError, Limits, QueueFullError
from web.runner import EXAMPLE_FOLDER, Cancelled, CancelToken, DemoRunner, Line


@pytest.fixture
def runner(inferencer):
    with DemoRunner(inferencer, Limits(seconds=20)) as runner:
        yield runner


@pytest.fixture
def run(runner):
    """Run a job of session 's'; ``seen`` are its reports."""

    def run(path, names='dog, cat', report=None, **settings):
        report = report or (lambda *what: run.seen.append(what))
        return runner.run('s', None if path is None else str(path), names, report, **settings)

    run.seen = []
    return run


@pytest.fixture
def video(tmp_path) -> Path:
    return write_mp4(tmp_path / 'my clip.mp4', numbered(70), sound=clicks(7, [1.0]))


def files(folder):
    return sorted(path.name for path in folder.rglob('*') if path.is_file())


# ------------------------------------------------------------------ jobs
@pytest.mark.filterwarnings('ignore::UserWarning')
def test_result(run, runner, video, tmp_path):
    result = run(video, 'dog, <b>/../x', fps=2, opacity=0.5)
    assert result.labels is None and files(runner.root) == ['my clip_labelled.json', 'my clip_labelled.mp4']
    with av.open(result.video) as file:
        assert file.streams.audio and file.streams.video[0].frames == 70
    text = Path(result.timeline).read_text(encoding='utf-8')
    assert json.loads(text) == result.prediction
    assert str(tmp_path) not in text and str(runner.root) not in text
    assert result.prediction['video'] == 'my clip.mp4' and len(result.prediction['frames']) == 14
    assert video.is_file()
    assert [seconds for seconds, _, _ in run.seen] == [(i + 1) / 2 for i in range(14)]
    assert run.seen[-1][1] == pytest.approx(7, abs=0.2) and run.seen[-1][2] == 0


@pytest.mark.parametrize('frames', [1, 6])
def test_cancelled_while_it_runs(run, runner, video, frames):
    def report(seconds, *_):
        if seconds >= frames:
            runner.session('s').token.set()

    with pytest.raises(Cancelled):
        run(video, report=report)
    assert files(runner.root) == []


def test_cancelled_while_it_waits(run, runner, video):
    """One job at a time; one that waits can be cancelled, too."""
    errors = []

    def wait():
        with pytest.raises(Cancelled) as error:
            run(video)
        errors.append(error.type)

    with runner.line.turn(CancelToken()):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        runner.session('s').token.set()
    thread.join(30)
    assert errors == [Cancelled] and run.seen == [] and files(runner.root) == []


@pytest.mark.parametrize('size', [0, -1, 1.5, '9'])
def test_the_length_of_the_queue_is_checked(inferencer, size):
    with pytest.raises(ValueError, match=f'queue must be a whole number above 0, got {size!r}'):
        DemoRunner(inferencer, Limits(), size)


def test_turns_come_in_order_and_the_queue_has_an_end():
    line, order, told = Line(2), [], []

    def take(number):
        with line.turn(CancelToken(), lambda before: told.append((number, before))):
            order.append(number)

    with line.turn(CancelToken()):
        threads = [threading.Thread(target=take, args=[number]) for number in (1, 2)]
        for number, thread in enumerate(threads, 1):
            thread.start()
            while (number, number) not in told:
                thread.join(0.01)
        with pytest.raises(QueueFullError, match='2 videos wait already'), line.turn(CancelToken()):
            pass
        assert order == []
    for thread in threads:
        thread.join(30)
    assert order == [1, 2]
    line.check_room()


def no_picture(path):
    """A video file with sound alone."""
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('aac', rate=16000, layout='mono')
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), 'fltp', 'mono')
        frame.sample_rate, frame.pts = 16000, 0
        file.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def test_bad_input_is_refused_in_words(run, runner, video, tmp_path):
    """A video that is of no use goes, others stay; nothing says where files lie."""
    (tmp_path / 'text.mp4').write_text('no video' * 100)
    (tmp_path / 'list.mp4').write_text(f'ffconcat version 1.0\nfile {video.name}\n')
    (tmp_path / 'cut.mp4').write_bytes(video.read_bytes()[:1500])
    long = write_mp4(tmp_path / 'long.mp4', numbered(30), 1.0)
    for path, options, message in (
        (None, {}, 'Upload or record a video first'),
        (no_picture(tmp_path / 'sound.mp4'), {}, '^sound.mp4 has no picture stream'),
        (long, {}, '^long.mp4 is 29 s long, the server takes 20 s'),
        *((tmp_path / f'{n}.mp4', {}, f'^{n}.mp4 cannot be read') for n in ('text', 'list', 'cut')),
        (tmp_path / 'gone.mp4', {}, 'upload it again'),
        (video, dict(names='x, X'), 'given twice'),
        (video, dict(fps=1000), r'fps .*1 to 60, got 1000'),
        (video, dict(opacity=7.0), r'opacity must be from 0 to 1, got 7.0'),
    ):
        with pytest.raises(InputError, match=message) as error:
            run(path, **options)
        assert error.value.video == (path not in (None, video))
        text = str(error.value)
        assert str(tmp_path) not in text and str(runner.root) not in text
        assert files(runner.root) == []


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_a_video_that_is_longer_than_it_says(run, runner, video, monkeypatch):
    """The length in a file is a claim: the frames are counted."""
    runner.limits = Limits(seconds=3)
    monkeypatch.setattr(Limits, 'check_source', lambda *_: None)
    with pytest.raises(InputError, match='my clip.mp4 is more than 4 s long'):
        run(video)
    assert files(runner.root) == []


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_what_is_odd_is_said(run, tmp_path):
    silent = write_mp4(tmp_path / 'silent.mp4', numbered(20), sound=np.zeros(0, np.float32))
    whole = write_mp4(tmp_path / 'whole.mp4', numbered(60, (96, 128)), options={'movflags': 'faststart'})
    cut = tmp_path / 'cut.mp4'
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    assert 'silence' in ' '.join(run(silent).prediction['notes'])
    notes = ' '.join(run(cut).prediction['notes'])
    assert 'cut.mp4 is damaged or incomplete' in notes and str(tmp_path) not in notes


# ------------------------------------------------------------------ files of tabs
def upload(runner, folder, name='a.mp4'):
    """What Gradio does with an upload."""
    path = runner.root / folder / name
    path.parent.mkdir()
    path.touch()
    return path


def test_all_goes_at_the_end(inferencer):
    with DemoRunner(inferencer, Limits()) as runner:
        upload(runner, 'x')
        token = runner.session('s').token
    assert not runner.root.exists()
    with pytest.raises(Cancelled):
        token.check()


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_a_tab_has_the_files_of_its_last_job(run, runner, video):
    first, second = run(video), run(video)
    other = runner.run('t', str(video), 'dog', lambda *_: None)
    assert not os.path.exists(first.video) and os.path.exists(second.video)
    runner.session('s', new_job=True)
    assert not os.path.exists(second.video) and os.path.exists(other.video)
    runner.close('t')
    assert not os.path.exists(other.video)
    runner.close('t')  # twice does no harm


def test_uploads_go_when_no_tab_shows_them(runner):
    shared, own = upload(runner, 'x'), upload(runner, 'y')
    runner.hold_upload('s', str(shared))
    runner.hold_upload('t', str(shared))
    runner.hold_upload('s', str(own))
    assert shared.exists() and own.exists()
    runner.hold_upload('s', str(own))
    assert own.exists()
    runner.close('t')
    assert not shared.parent.exists() and own.exists()
    runner.hold_upload('s', None)
    assert not own.parent.exists()


def test_nothing_else_is_removed(runner, tmp_path):
    """Not the example, no results, nothing outside."""
    outside = tmp_path / 'folder' / 'a.mp4'
    outside.parent.mkdir()
    kept = [outside, upload(runner, 'job_1'), upload(runner, EXAMPLE_FOLDER), runner.root / 'b.mp4']
    for path in kept:
        path.touch()
        runner.hold_upload('s', str(path))
        runner.hold_upload('s', None)
        assert path.exists()


def test_tokens_stop_the_job_they_were_made_for(runner):
    token = runner.session('s').token
    token.check()
    token.set()
    runner.session('s', new_job=True).token.check()
    with pytest.raises(Cancelled):
        token.check()
    last = runner.session('s').token
    runner.close('s')
    with pytest.raises(Cancelled):
        last.check()
