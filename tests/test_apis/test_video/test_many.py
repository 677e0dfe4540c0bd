# SPDX-License-Identifier: Apache-2.0
"""Shares of processes, complete predictions, claims and summaries."""

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovavss_mm.apis.video.many import (
    Job,
    claimed,
    read_complete,
    share_jobs,
    share_out,
    stamps,
    summary_row,
    write_summary,
)

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


def test_one_process_takes_all_and_those_that_are_complete_first(tmp_path):
    (tmp_path / 'no.mp4').write_text('no video')
    frames = dict(frames=np.zeros((6, 8, 8, 3), np.uint8), frame_rate=2, name='b')
    inputs = [str(tmp_path / 'no.mp4'), frames, np.zeros((2, 8, 8, 3), np.uint8)]
    jobs, wanted, mine = share_jobs(inputs, None, lambda job: job.name == 'frames')
    assert (wanted, mine) == ([0, 1], [2, 0, 1])
    assert [job.seconds for job in jobs] == [0, 3, 0]
    assert [job.video for job in jobs] == [str(tmp_path / 'no.mp4'), 'b', 'frames']
    assert [bool(job.files) for job in jobs] == [True, False, False]


def test_results_below_a_folder_of_videos_are_no_videos(tmp_path):
    for name in ('in/a/x.mp4', 'in/out/vis/x.mp4'):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b'')
    for out, count in ((None, 2), (str(tmp_path / 'in/out'), 1)):
        jobs, *_ = share_jobs(str(tmp_path / 'in'), out, lambda job: False)
        assert len(jobs) == count


# ------------------------------------------------------------------ what is there already
@pytest.fixture
def written(tmp_path) -> tuple[dict, dict[str, Path]]:
    """What an earlier call left of a video: the head of its file, and all files."""
    files = dict(video=tmp_path / 'vis.mp4', json=tmp_path / 'clip.json')
    files['video'].write_text('')
    files['json'].write_text(json.dumps(dict(**SETTINGS, frames=[dict(time=0.0)], names={}, duration=1.0)))
    return dict(SETTINGS), files


def test_a_complete_prediction_is_read_without_frames(written):
    head, files = written
    found = read_complete(head, files)
    assert found['names'] == {} and 'frames' not in found
    assert found['files'] == {kind: str(path) for kind, path in files.items()}


@pytest.mark.parametrize('change', ['head', 'file', 'cut', 'other JSON'])
def test_what_is_of_something_else_is_not_complete(written, change):
    head, files = written
    if change == 'head':
        head['vocabulary'] = ['cat', 'dog']
    elif change == 'file':
        files['video'].unlink()
    else:
        text = files['json'].read_text()
        files['json'].write_text('[1]' if change == 'other JSON' else text[: len(text) // 2])
    assert read_complete(head, files) is None


def test_a_file_that_was_replaced_has_another_stamp(tmp_path, monkeypatch):
    """Also by an older one, also in a folder; not by the way in which it is named."""
    (tmp_path / 'folder/frames').mkdir(parents=True)
    os.utime(tmp_path / 'folder/frames', (1, 1))
    for name in ('clip.mp4', 'folder/frames/0.png'):
        (tmp_path / name).write_bytes(b'1')
    paths = [str(tmp_path / 'clip.mp4'), str(tmp_path / 'folder')]
    first = stamps(paths)
    monkeypatch.chdir(tmp_path)
    assert stamps(['clip.mp4', './folder/']) == first
    for name in ('clip.mp4', 'folder/frames/0.png'):
        os.utime(tmp_path / name, (1, 1))
    second = stamps(paths)
    assert all(a[0] == b[0] and a != b for a, b in zip(first, second, strict=True))
    size = stamps(paths)[1][1]
    (tmp_path / 'folder/1.png').write_bytes(b'22')
    assert stamps(paths)[1][1] == size + 2


def test_outputs_are_claimed_once_and_nothing_is_left(tmp_path):
    with claimed(str(tmp_path), 'clip') as first, claimed(str(tmp_path), 'other') as other:
        with claimed(str(tmp_path), 'clip') as second:
            assert (first, second, other) == (True, False, True)
        with claimed(str(tmp_path), 'clip') as still:
            assert not still
    assert list(tmp_path.iterdir()) == []
    with claimed(str(tmp_path), 'clip') as again:
        assert again


def claim_often(folder: str, name: str) -> None:
    """Claim and let go, as often as it goes within some time."""
    for _ in range(150):
        with claimed(folder, name) as ours:
            assert ours


def test_claims_of_processes_do_not_meet(tmp_path):
    """The folder that one process removes is made again by another."""
    with ProcessPoolExecutor(2, multiprocessing.get_context('fork')) as pool:
        for done in [pool.submit(claim_often, str(tmp_path), name) for name in ('a', 'b')]:
            done.result()
    assert list(tmp_path.iterdir()) == []


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
        summary_row(Job('x/c².mp4', 'c²'), 'failed', dict(video='x', error='odd \udc80')),
    ]
    write_summary(str(tmp_path), rows)
    content = json.loads((tmp_path / 'summary.json').read_text(encoding='utf-8'))
    assert [row['output'] for row in content] == ['a', 'b9', 'b10', 'c²']
    assert content[2]['names'] == {
        'dog, "big"': dict(seconds=3.0, identities=2), '犬': dict(seconds=1.0, identities=1)
    }  # fmt: skip
    assert (tmp_path / 'summary.csv').read_text(encoding='utf-8').splitlines() == [
        'video,output,state,duration,name,seconds,identities,error',
        'x/a.mp4,a,failed,,,,,no video',
        'x/b9.mp4,b9,complete,2.0,,,,',
        'x/b10.mp4,b10,labelled,4.0,"dog, ""big""",3.0,2,',
        'x/b10.mp4,b10,labelled,4.0,犬,1.0,1,',
        'x/c².mp4,c²,failed,,,,,odd \\udc80',
    ]
