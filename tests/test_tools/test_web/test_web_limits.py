# SPDX-License-Identifier: Apache-2.0
"""What the page takes, and how it says no."""

import os

import pytest
from video_files import numbered, write_mp4
from web import limits
from web.limits import InputError, Limits, parse_names

from ovavss_mm.apis.video.video_source import VideoSource


@pytest.mark.parametrize('key', ['megabytes', 'seconds'])
@pytest.mark.parametrize('value', [0, -1, float('inf'), float('nan'), '9'], ids=['0', '-1', 'inf', 'nan', 'text'])
def test_limits_are_positive_numbers(key, value):
    with pytest.raises(ValueError, match=f'limit of {key} must be above 0, got '):
        Limits(**{key: value})


def test_names_are_parted_by_commas_and_lines():
    names = parse_names(' dog, cat ,,\n\ncrying baby\r\n  a/b ,<b>,')
    assert names == ['dog', 'cat', 'crying baby', 'a/b', '<b>']
    assert len(parse_names(','.join(map(str, range(200))))) == 200
    assert parse_names('犬、猫，鳥; كلب، قطة') == ['犬', '猫', '鳥', 'كلب', 'قطة']


@pytest.mark.parametrize(
    'text, message',
    [
        (None, 'at least one name'),
        (' ,\n, ', 'at least one name'),
        (', '.join(map(str, range(201))), '201 names are given, the server takes 200 at most'),
        ('dog, ' + 500 * 'x', r'up to 100 letters, number 2 has 500: "x{40}\.\.\."'),
    ],
    ids=['none', 'blank', 'many', 'long'],
)
def test_names_that_are_refused(text, message):
    with pytest.raises(InputError, match=message) as error:
        parse_names(text)
    assert not error.value.video


def test_size_length_and_pixels(tmp_path, monkeypatch):
    path = write_mp4(tmp_path / 'a.mp4', numbered(5), times=[0.0, 1.0, 2.0, 3.0, 4.0])
    source = VideoSource(str(path), name='a.mp4')
    Limits(seconds=4).check_source(source)
    with pytest.raises(InputError, match='a.mp4 is 4 s long, the server takes 2 s at most'):
        Limits(seconds=2).check_source(source)
    with pytest.raises(InputError, match='more than 4 s long'):
        Limits(seconds=2).check_seconds(4, 'a.mp4', seen=True)
    monkeypatch.setattr(limits, 'MAX_MEGAPIXELS', 0.001)
    with pytest.raises(InputError, match=r'frames of 48 x 32 pixels, .* 0.001 million'):
        Limits().check_source(source)
    with open(path, 'ab') as file:
        os.truncate(file.fileno(), 3 * 2**20)
    with pytest.raises(InputError, match=r'a.mp4 has 3.0 MB, the server takes 2.5 MB at most'):
        Limits(megabytes=2.5).check_file(str(path), 'a.mp4')
