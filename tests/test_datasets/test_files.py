# SPDX-License-Identifier: Apache-2.0
import pytest

from ovavss_mm.datasets.files import find_audio, written_whole


def test_written_whole(tmp_path):
    path = tmp_path / 'new' / 'file.txt'
    with written_whole(path) as beside:
        beside.write_text('one')
        assert not path.exists()
    assert path.read_text() == 'one'
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / 'file.txt'
    path.write_text('old')

    def fail():
        with written_whole(path) as beside:
            beside.write_text('half')
            raise RuntimeError('stop')

    with pytest.raises(RuntimeError, match='stop'):
        fail()
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_audio(tmp_path):
    assert find_audio(str(tmp_path)) is None
    (tmp_path / 'audio.wav').touch()
    assert find_audio(str(tmp_path)) == str(tmp_path / 'audio.wav')
