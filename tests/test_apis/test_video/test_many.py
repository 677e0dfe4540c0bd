# SPDX-License-Identifier: Apache-2.0
"""Shares of processes, complete predictions, claims and summaries."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovavss_mm.apis.video.many import Job, claimed, read_complete, share_jobs, share_out, summary_row, write_summary

SETTINGS = dict(model='mini.py', vocabulary=['dog', 'cat'], prompt_templates=('a {}', '{}'), fps=1)


@given(seconds=st.lists(st.floats(0, 1e4), max_size=30), parts=st.integers(1, 7))
def test_each_video_is_in_one_share_and_shares_last_equally_long(seconds, parts):
    shares = share_out(seconds, parts)
    assert len(shares) == parts and sorted(i for share in shares for i in share) == list(range(len(seconds)))
    assert shares == [sorted(share) for share in shares]
    loads = [sum(seconds[i] for i in share) for share in shares]
    assert max(loads) - min(loads) <= max(seconds, default=0) + 1e-6
    counts = [len(share) for share in share_out([0.0] * len(seconds), parts)]
    assert max(counts) - min(counts) <= 1, 'of unknown lengths equally many'


def test_one_process_labels_what_is_wanted(tmp_path):
    (tmp_path / 'no.mp4').write_text('no video')
    frames = dict(frames=np.zeros((6, 8, 8, 3), np.uint8), frame_rate=2)
    jobs = [Job(str(tmp_path / 'no.mp4'), 'a'), Job(frames, 'b'), Job(np.zeros((2, 8, 8, 3), np.uint8), 'c')]
    assert share_jobs(jobs, [0, 1]) == [0, 1]
    assert [job.seconds for job in jobs] == [0, 3, 0]
    assert [job.video for job in jobs] == [str(tmp_path / 'no.mp4'), 'b', 'c']


# ------------------------------------------------------------------ what is there already
@pytest.fixture
def written(tmp_path) -> tuple[Job, dict[str, Path]]:
    """A video, and what an earlier call left of it."""
    video = tmp_path / 'clip.mp4'
    video.write_bytes(b'video')
    files = dict(video=tmp_path / 'vis.mp4', json=tmp_path / 'clip.json')
    for path in files.values():
        path.write_text('{}')
    content = dict(video=str(video), **SETTINGS, frames=[dict(time=0.0)], names={}, duration=1.0)
    files['json'].write_text(json.dumps(content))
    os.utime(video, (1, 1))
    return Job(str(video), 'clip'), files


def test_a_complete_prediction_is_read_without_frames(written):
    job, files = written
    found = read_complete(job, SETTINGS, files, None)
    assert found['names'] == {} and 'frames' not in found
    assert found['files'] == {kind: str(path) for kind, path in files.items()}


@pytest.mark.parametrize('change', ['settings', 'video', 'newer video', 'newer weights', 'file', 'cut', 'other JSON'])
def test_what_is_of_something_else_is_not_complete(written, tmp_path, change):
    job, files = written
    settings, weights = dict(SETTINGS), tmp_path / 'weights.pth'
    weights.write_bytes(b'')
    os.utime(weights, (1, 1))
    assert read_complete(job, settings, files, str(weights)) is not None
    if change == 'settings':
        settings['vocabulary'] = ['cat', 'dog']
    elif change == 'video':
        job = Job(str(tmp_path / 'another.mp4'), 'another')
    elif change.startswith('newer'):
        os.utime(weights if 'weights' in change else job.item, (2**32, 2**32))
    elif change == 'file':
        files['video'].unlink()
    else:
        text = files['json'].read_text()
        files['json'].write_text('[1]' if change == 'other JSON' else text[: len(text) // 2])
    assert read_complete(job, settings, files, str(weights)) is None


def test_outputs_are_claimed_once_and_nothing_is_left(tmp_path):
    with claimed(str(tmp_path), 'clip') as first, claimed(str(tmp_path), 'other') as other:
        with claimed(str(tmp_path), 'clip') as second:
            assert (first, second, other) == (True, False, True)
        with claimed(str(tmp_path), 'clip') as still:
            assert not still
    assert list(tmp_path.iterdir()) == []
    with claimed(str(tmp_path), 'clip') as again:
        assert again


# ------------------------------------------------------------------ summary
def test_a_summary_tells_names_seconds_objects_and_errors(tmp_path):
    heard = dict(
        names={'dog, "big"': dict(seconds=3.0), '犬': dict(seconds=1.0)},
        objects=[dict(name='dog, "big"'), dict(name='dog, "big"'), dict(name='犬')],
        **dict(duration=4.0, silent=dict(seconds=1.0, intervals=[]), notes=['odd']),
    )
    silent = dict(names={}, objects=[], duration=2.0, silent=dict(seconds=2.0), notes=[])
    rows = [
        summary_row(Job('x/b10.mp4', 'b10'), 'labelled', heard),
        summary_row(Job('x/b9.mp4', 'b9'), 'complete', silent),
        summary_row(Job('x/a.mp4', 'a'), 'failed', dict(video='x/a.mp4', error='no video')),
    ]
    write_summary(str(tmp_path), rows)
    content = json.loads((tmp_path / 'summary.json').read_text(encoding='utf-8'))
    assert [row['output'] for row in content] == ['a', 'b9', 'b10']
    assert content[2]['names'] == {
        'dog, "big"': dict(seconds=3.0, identities=2), '犬': dict(seconds=1.0, identities=1)
    }  # fmt: skip
    assert (tmp_path / 'summary.csv').read_text(encoding='utf-8').splitlines() == [
        'video,output,state,duration,name,seconds,identities,error',
        'x/a.mp4,a,failed,,,,,no video',
        'x/b9.mp4,b9,complete,2.0,,,,',
        'x/b10.mp4,b10,labelled,4.0,"dog, ""big""",3.0,2,',
        'x/b10.mp4,b10,labelled,4.0,犬,1.0,1,',
    ]
