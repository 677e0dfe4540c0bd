# SPDX-License-Identifier: Apache-2.0
from ovavss_mm.datasets.files import find_audio


def test_audio(tmp_path):
    assert find_audio(str(tmp_path)) is None
    (tmp_path / 'audio.wav').touch()
    assert find_audio(str(tmp_path)) == str(tmp_path / 'audio.wav')
