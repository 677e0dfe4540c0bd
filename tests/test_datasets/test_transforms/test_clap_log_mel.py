# SPDX-License-Identifier: Apache-2.0
"""CLAP's front end: seconds that are repeated, in the data set, in the inferencer and at any rate."""

import numpy as np
import pytest
import soundfile

from ovavss_mm.datasets import CLAPLogMel, LoadClipAudio

RATE = 8000
SMALL = dict(sample_rate=RATE, seconds=2, mels=16, fft=256, hop=80, max_hz=4000)


def noise(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate))


@pytest.mark.parametrize('seconds', [0.3, 1.0, 1.6, 3.0, 3.9])
def test_the_last_second_fills_what_is_too_short(seconds):
    front, wave = CLAPLogMel(**SMALL), noise(seconds)
    whole = int(seconds)
    expected = [front.row(wave[i * RATE : (i + 1) * RATE]) for i in range(whole)]
    last = np.resize(wave[-RATE:], RATE)  # which may overlap a second that is there
    if seconds >= 1:
        expected += [front.row(last)] * (5 - whole)
    else:
        expected += [front.row(part) for part in np.split(np.resize(wave, 5 * RATE), 5)]
    np.testing.assert_array_equal(front(wave, 5), expected)
    assert front(wave, 5).dtype == np.float32 and front(wave, 5).shape == (5, 1, 201, 16)


def test_longer_sound_is_cut_and_silence_is_the_floor():
    front, wave = CLAPLogMel(**SMALL), noise(3)
    np.testing.assert_array_equal(front(wave, 2), front(wave[: 2 * RATE], 2))
    np.testing.assert_allclose(front(np.zeros(RATE), 2), -100)
    np.testing.assert_allclose(front(np.zeros(0), 1), -100)


def test_samples_are_quantised_and_clipped():
    front = CLAPLogMel(**SMALL)
    levels = front.piece(np.array([2.0, -3.0, 1.9 / 32767, -1.9 / 32767, 0.5])) * 32767
    np.testing.assert_allclose(levels, [32767, -32767, 1, -1, 16383], atol=1e-2)


@pytest.mark.parametrize(('rate', 'channels'), [(8000, 1), (22050, 1), (44100, 2)])
def test_files_of_any_rate_are_filled_at_clap_s_rate(tmp_path, rate, channels):
    path = str(tmp_path / 'a.wav')
    time = np.arange(round(2.5 * rate)) / rate
    wave = 0.5 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(path, np.repeat(wave[:, None], channels, 1), rate)
    step = LoadClipAudio(front_end=dict(type='CLAPLogMel', **SMALL))
    results = step.transform(dict(num_frames=5, audio_path=path, clip_id='a'))
    assert results['audio'].shape == (5, 1, 201, 16)
    np.testing.assert_array_equal(results['audio'][2:], np.repeat(results['audio'][2:3], 3, 0))
    loudest = results['audio'][0, 0].mean(0).argmax()
    assert (results['audio'][:, 0].mean(1).argmax(1) == loudest).all() and results['audio'].max() > 0


def test_a_sound_added_from_elsewhere_is_as_long(tmp_path):
    paths = [str(tmp_path / f'{i}.wav') for i in range(2)]
    for path, seconds in zip(paths, (1.5, 2.2), strict=True):
        soundfile.write(path, noise(seconds), RATE)
    step = LoadClipAudio(front_end=dict(type='CLAPLogMel', **SMALL))
    both = step.transform(dict(num_frames=4, audio_path=paths[0], extra_audio=(paths[1], 0.0), clip_id='a'))
    assert both['audio'].shape == (4, 1, 201, 16) and both['audio'].min() > -100


@pytest.mark.parametrize(('keys', 'words'), [(dict(hop=0), 'hop must be .* 0'), (dict(max_hz=5000), '50 to 5000')])
def test_bad_keys_are_named(keys, words):
    with pytest.raises(ValueError, match=words):
        CLAPLogMel(**SMALL | keys)
