# SPDX-License-Identifier: Apache-2.0
"""What the page takes, and what it says of the rest."""

import os
from pathlib import Path

import av
import pytest
from video_files import clicks, numbered, write_mp4
from web.limits import Limits, Refused

from ovavss_mm.apis.video.sources import VideoSource


@pytest.mark.parametrize('key', ['megabytes', 'seconds', 'names', 'letters', 'megapixels'])
@pytest.mark.parametrize('value', [0, -1, float('inf'), float('nan'), '9'], ids=['0', '-1', 'inf', 'nan', 'text'])
def test_limits_are_positive_numbers(key, value):
    with pytest.raises(ValueError, match=f'limit of {key} must be above 0, got '):
        Limits(**{key: value})


def test_names_are_parted_by_commas_and_lines():
    names = Limits().parse_names(' dog, cat ,,\n\ncrying baby\r\n  a/b ,<b>,')
    assert names == ['dog', 'cat', 'crying baby', 'a/b', '<b>']


@pytest.mark.parametrize(
    'text, message',
    [
        (None, 'at least one name'),
        (' ,\n, ', 'at least one name'),
        (', '.join(map(str, range(10_000))), '10000 names are given, this page takes 200 at most'),
        ('dog, ' + 500 * 'x', r'up to 100 letters, number 2 has 500: "x{40}…"'),
        ('crying baby, cat, Crying  Baby', '"Crying  Baby" is given twice'),
    ],
    ids=['none', 'blank', 'many', 'long', 'twice'],
)
def test_names_that_are_refused(text, message):
    with pytest.raises(Refused, match=message) as error:
        Limits().parse_names(text)
    assert not error.value.video


def test_as_many_names_as_the_limit():
    assert len(Limits(names=3, letters=2).parse_names('ab,cd,ef')) == 3


@pytest.fixture
def playlist(tmp_path) -> Path:
    """A playlist under the name of a video, which would make FFmpeg read another file."""
    path = tmp_path / 'list.mp4'
    other = write_mp4(tmp_path / 'other.ts', numbered(10))
    path.write_text(f'ffconcat version 1.0\nfile {other.name}\n')
    return path


def test_files_that_are_no_videos(tmp_path, playlist):
    (tmp_path / 'text.mp4').write_text('no video' * 100)
    (tmp_path / 'empty.mp4').touch()
    good = write_mp4(tmp_path / 'good.mp4', numbered(10), sound=clicks(1, [0.5]))
    (tmp_path / 'cut.mp4').write_bytes(good.read_bytes()[:1500])
    av.open(str(playlist)).close()  # it could be read, and must not be
    limits = Limits()
    limits.check_file(str(good), 'good.mp4')
    for name in ('text.mp4', 'empty.mp4', 'cut.mp4', playlist.name):
        with pytest.raises(Refused, match=f'^{name} cannot be read as a video') as error:
            limits.check_file(str(tmp_path / name), name)
        assert error.value.video and str(tmp_path) not in str(error.value)
    with pytest.raises(Refused, match='upload it again'):
        limits.check_file(str(tmp_path / 'gone.mp4'), 'gone.mp4')


def test_size_length_and_pixels(tmp_path):
    path = write_mp4(tmp_path / 'a.mp4', numbered(5), times=[0.0, 1.0, 2.0, 3.0, 4.0])
    source = VideoSource(str(path), name='a.mp4')
    Limits(seconds=4).check_source(source)
    with pytest.raises(Refused, match='a.mp4 is 4 s long, this page takes 2 s at most'):
        Limits(seconds=2).check_source(source)
    with pytest.raises(Refused, match='more than 4 s long'):
        Limits(seconds=2).check_seconds(4, 'a.mp4', seen=True)
    with pytest.raises(Refused, match=r'frames of 48 x 32 pixels, .* 0.001 million'):
        Limits(megapixels=0.001).check_source(source)
    with open(path, 'ab') as file:
        os.truncate(file.fileno(), 3 * 2**20)
    with pytest.raises(Refused, match=r'a.mp4 has 3.0 MB, this page takes 2.5 MB at most'):
        Limits(megabytes=2.5).check_file(str(path), 'a.mp4')
