# SPDX-License-Identifier: Apache-2.0
"""Names that are looked up in results."""

import json

import pytest

from ovavss_mm.apis.video.results import find_videos


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'pred').mkdir()
    for video, heard in dict(a=dict(dog=2.0, 犬=1.0), b=dict(dog=5.0), c=dict()).items():
        names = {name: dict(seconds=seconds, intervals=[[0, seconds]]) for name, seconds in heard.items()}
        content = dict(video=f'{video}.mp4', vocabulary=['dog', '犬', 'cow'], names=names)
        (tmp_path / 'pred' / f'{video}.json').write_text(json.dumps(content))
    return str(tmp_path)


def test_the_longest_come_first(folder):
    found = find_videos([folder], ['dog', '犬'], 0)
    assert [(video, name, what['seconds']) for video, name, what in found] == [
        ('b.mp4', 'dog', 5.0), ('a.mp4', 'dog', 2.0), ('a.mp4', '犬', 1.0)
    ]  # fmt: skip
    assert [video for video, *_ in find_videos([folder, folder], ['dog'], 2.5)] == ['b.mp4', 'b.mp4']
    assert find_videos([folder], ['cow'], 0) == []


def test_what_cannot_be_looked_up_is_said(folder, tmp_path):
    with pytest.raises(ValueError, match="no video was asked for 'cat', but for cow, dog, 犬"):
        find_videos([folder], ['dog', 'cat'], 0)
    with pytest.raises(FileNotFoundError, match='nothing has no results: there is no JSON file in nothing/pred'):
        find_videos(['nothing'], ['dog'], 0)
    (tmp_path / 'pred/.a.1-part.json').write_text('{')  # of a video that is being labelled
    assert len(find_videos([folder], ['dog'], 0)) == 2
    (tmp_path / 'pred/bad.json').write_text('[]')
    with pytest.raises(ValueError, match='bad.json is no result of labelling'):
        find_videos([folder], ['dog'], 0)
