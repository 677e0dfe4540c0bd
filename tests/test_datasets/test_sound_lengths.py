# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import soundfile

from ovavss_mm.datasets.sound_lengths import describe_lengths, is_short
from ovavss_mm.datasets.transforms.front_ends import VGGishLogMel


def clip(path, seconds=None, rate=16000, num_frames=5, samples=None) -> dict:
    samples = round(seconds * rate) if samples is None else samples
    soundfile.write(path, np.zeros(samples), rate)
    return {'audio_path': str(path), 'num_frames': num_frames}


def test_enough_sound_is_not_worth_a_word(tmp_path):
    clips = [
        clip(tmp_path / 'a.wav', 5),
        clip(tmp_path / 'b.wav', 5.4, rate=44100),
        clip(
            tmp_path / 'c.wav',
            rate=22050,
            samples=-(-VGGishLogMel().num_samples(5) * 22050 // 16000),
        ),
        {'audio_path': None, 'num_frames': 5},
        {'audio_path': 's3://bucket/audio.wav', 'num_frames': 5},
    ]
    assert describe_lengths(clips) is None
    assert describe_lengths([]) is None


def test_counts_and_the_worst(tmp_path):
    (tmp_path / 'bad.wav').write_bytes(b'no sound')
    clips = [
        clip(tmp_path / 'fine.wav', 5),
        clip(tmp_path / 'short.wav', 4),
        clip(tmp_path / 'shorter.wav', 2.515),
        clip(tmp_path / 'long.wav', 9, num_frames=5),
        {'audio_path': str(tmp_path / 'bad.wav'), 'num_frames': 5},
    ]
    text = describe_lengths(clips)
    assert '2 of 5 clips have less sound' in text
    # 5 patches of 0.96 s and 15 ms of a last window are 4.815 s.
    assert f'padded with silence (most: 2.30 s, {tmp_path}/shorter.wav)' in text
    assert '1 of 5 clips have over 0.5 s more sound' in text
    assert f'cut (most: 4.00 s, {tmp_path}/long.wav)' in text


@pytest.mark.parametrize('rate', [8000, 16000, 44100])
def test_short_means_padded(tmp_path, rate):
    needed = -(-VGGishLogMel().num_samples(5) * rate // 16000)
    for samples, expected in ((needed, False), (needed - 1, True)):
        path = clip(tmp_path / 'a.wav', rate=rate, samples=samples)['audio_path']
        assert is_short(path, 5) is expected
    assert is_short(None, 5) is False
