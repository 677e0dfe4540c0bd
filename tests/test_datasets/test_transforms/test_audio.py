# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import resampy
import soundfile
from torchvggish.vggish_input import waveform_to_examples, wavfile_to_examples

from ovavss_mm.datasets import LoadClipAudio
from ovavss_mm.datasets.transforms.audio import mix_in, white_noise
from ovavss_mm.datasets.transforms.front_ends import VGGishLogMel

SILENCE = np.float32(np.log(0.01))


def results_of(path, num_frames=5, frame_inds=None) -> dict:
    results = {'audio_path': path and str(path), 'num_frames': num_frames}
    if frame_inds is not None:
        results['frame_inds'] = np.array(frame_inds)
    return results


def noise(seconds: float, rate: int = 16000, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(-0.5, 0.5, (round(seconds * rate), channels))


def write(path, wave: np.ndarray, rate: int = 16000, subtype: str = 'PCM_16'):
    soundfile.write(path, wave, rate, subtype)
    return path


@pytest.mark.parametrize(('rate', 'channels'), [(16000, 1), (44100, 2)])
def test_equals_the_front_end_of_vggish(tmp_path, rate, channels):
    path = write(tmp_path / 'a.wav', noise(5, rate, channels), rate)
    audio = LoadClipAudio()(results_of(path))['audio']
    expected = wavfile_to_examples(str(path), return_tensor=False)
    assert audio.shape == (5, 1, 96, 64)
    assert audio.dtype == np.float32
    assert np.abs(audio[:, 0] - expected).max() < 1e-6


def test_rows_belong_to_the_chosen_frames(tmp_path):
    path = write(tmp_path / 'a.wav', noise(10))
    whole = LoadClipAudio()(results_of(path, 10))['audio']
    some = LoadClipAudio()(results_of(path, 10, [1, 4, 8]))['audio']
    assert np.array_equal(some, whole[[1, 4, 8]])


def test_sound_of_one_second_is_in_its_row(tmp_path):
    wave = np.zeros((80000, 1))
    wave[32500:45000] = noise(12500 / 16000)
    audio = LoadClipAudio()(results_of(write(tmp_path / 'a.wav', wave)))['audio']
    loud = audio.max(axis=(1, 2, 3)) > SILENCE + 1
    assert loud.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize('channels', [1, 2])
@pytest.mark.parametrize('rate', [8000, 11025, 22050, 48000])
@pytest.mark.parametrize(
    ('subtype', 'step'),
    [
        ('PCM_U8', 2**-7),
        ('PCM_16', 2**-15),
        ('PCM_24', 2**-23),
        ('PCM_32', 2**-31),
        ('FLOAT', 2**-24),
        ('DOUBLE', 2**-50),
    ],
)
def test_any_kind_of_wav(tmp_path, subtype, step, rate, channels):
    """What is stored in steps of a size differs by about that size from what was written."""
    wave = noise(5, rate, channels)
    path = write(tmp_path / 'a.wav', wave, rate, subtype)
    audio = LoadClipAudio()(results_of(path))['audio']
    exact = waveform_to_examples(np.pad(wave, [(0, rate), (0, 0)]), rate, return_tensor=False)[:5, None]
    assert audio.shape == (5, 1, 96, 64)
    # From logarithms of magnitudes plus 0.01 to magnitudes.
    assert np.abs(np.exp(audio) - np.exp(exact)).max() < 200 * step + 1e-4


@pytest.mark.parametrize('rate', [16000, 22050])
def test_silent_file_equals_no_file(tmp_path, rate):
    path = write(tmp_path / 'a.wav', np.zeros(rate * 5), rate)
    from_file = LoadClipAudio()(results_of(path))['audio']
    without = LoadClipAudio()(results_of(None))['audio']
    assert without.shape == (5, 1, 96, 64)
    assert np.array_equal(from_file, without)
    assert np.allclose(without, SILENCE)


@pytest.mark.parametrize('rate', [8000, 16000, 22050, 44100, 48000])
def test_just_enough_and_just_too_little(tmp_path, rate):
    needed = -(-VGGishLogMel().num_samples(5) * rate // 16000)
    wave = noise(6, rate)[:needed]
    assert len(LoadClipAudio()(results_of(write(tmp_path / 'a.wav', wave, rate)))['audio']) == 5
    strict = LoadClipAudio(on_short='raise')
    assert len(strict(results_of(tmp_path / 'a.wav'))['audio']) == 5
    path = write(tmp_path / 'b.wav', wave[:-1], rate)
    with pytest.raises(ValueError, match='b.wav'):
        strict(results_of(path))
    assert len(LoadClipAudio()(results_of(path))['audio']) == 5


def test_too_short_names_seconds(tmp_path):
    path = write(tmp_path / 'short.wav', noise(2.5))
    with pytest.raises(ValueError, match=r"short\.wav has 2\.500 s .* 5 frames need 4\.815 s.*'pad'"):
        # Frames that the sound does reach do not help: the file is wrong whatever is drawn.
        LoadClipAudio(on_short='raise')(results_of(path, 5, [0, 1]))


def test_padding_is_silence(tmp_path):
    path = write(tmp_path / 'a.wav', noise(0.5, channels=2))
    audio = LoadClipAudio()(results_of(path))['audio']
    assert (audio[0] > SILENCE + 1).any()
    assert np.allclose(audio[1:], SILENCE)


def test_longer_sound_is_cut(tmp_path):
    audio = LoadClipAudio()(results_of(write(tmp_path / 'a.wav', noise(9))))['audio']
    assert len(audio) == 5


def test_unusable_files(tmp_path):
    wave = noise(5)
    wave[[7, 9], 0] = np.nan, np.inf
    path = write(tmp_path / 'nan.wav', wave, subtype='FLOAT')
    with pytest.raises(ValueError, match=r'nan\.wav: 2 samples are not finite'):
        LoadClipAudio()(results_of(path))
    with pytest.raises(ValueError, match=r'empty\.wav has no samples'):
        LoadClipAudio()(results_of(write(tmp_path / 'empty.wav', np.zeros((0, 1)))))
    bad = tmp_path / 'bad.wav'
    bad.write_bytes(b'RIFF but no sound')
    with pytest.raises(OSError, match=r'cannot read the sound .*bad\.wav: \w[\w ]+\.$'):
        LoadClipAudio()(results_of(bad))
    with pytest.raises(FileNotFoundError, match=r'gone\.wav'):
        LoadClipAudio()(results_of(tmp_path / 'gone.wav'))


# ------------------------------------------------------------------ noise and sums
def test_noise_is_white_and_a_tenth_of_full_scale():
    wave = white_noise('clip', VGGishLogMel().num_samples(10), 0.1)
    assert wave.shape == (VGGishLogMel().num_samples(10),)
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(0.1, rel=1e-12)
    assert np.abs(wave).max() < 1
    power = np.abs(np.fft.rfft(wave)) ** 2
    bands = np.array([band.mean() for band in np.array_split(power[1:], 20)])
    assert np.abs(bands / bands.mean() - 1).max() < 0.1
    neighbours = np.mean(wave[1:] * wave[:-1]) / np.mean(wave**2)
    assert abs(neighbours) < 0.02


def test_noise_is_the_same_in_every_process():
    """What was drawn once, in a process of its own."""
    drawn = [-0.036107, -0.192184, 0.041272, -0.007629]
    assert white_noise('clip_ü', 4, 0.1) == pytest.approx(np.array(drawn), abs=1e-6)


def rms(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(wave**2)))


@pytest.mark.parametrize('level', [-6, 0, 6, 12])
def test_a_sound_is_added_so_many_decibels_under_the_own_one(level):
    own, extra = 0.2 * noise(1)[:, 0], 0.01 * noise(1)[::-1, 0]
    added = mix_in(own, extra, level) - own
    assert 20 * np.log10(rms(own) / rms(added)) == pytest.approx(level, abs=1e-9)
    assert np.allclose(added / rms(added), extra / rms(extra))


def test_where_one_sound_is_silent_the_other_is_as_it_is():
    wave, silence = 0.3 * noise(1)[:, 0], np.zeros(16000)
    assert np.array_equal(mix_in(wave, silence, 3), wave)
    assert np.array_equal(mix_in(silence, wave, 3), wave)


def test_a_sum_beyond_full_scale_is_turned_down_as_a_whole():
    own, extra = np.sin(np.arange(16000) / 9), np.sin(np.arange(16000) / 5)
    total = mix_in(own, extra, 0)
    assert np.abs(total).max() == pytest.approx(1)
    quiet = mix_in(own / 10, extra / 10, 0)
    assert np.allclose(total / rms(total), quiet / rms(quiet))


@pytest.mark.parametrize(
    ('own', 'other'),
    [
        ((5, 16000, 1), (5, 16000, 1)),
        ((5, 44100, 2), (5, 16000, 1)),
        ((5, 16000, 1), (5, 22050, 2)),
        ((5, 22050, 1), (2.5, 8000, 1)),
        ((5, 16000, 2), (9, 44100, 1)),
    ],
    ids=['same', 'own-44k-stereo', 'other-22k-stereo', 'other-short', 'other-long'],
)
def test_an_extra_sound_is_added_to_the_own_one_whatever_their_files_are(tmp_path, own, other):
    """As the sum of two waveforms, each padded before it is resampled: a sound rings for some samples after its end."""
    waves, rates = [0.3 * noise(*own), 0.1 * noise(*other)[::-1]], [own[1], other[1]]
    paths = [write(tmp_path / f'{n}.wav', *pair, 'DOUBLE') for n, *pair in zip('ab', waves, rates, strict=True)]
    audio = LoadClipAudio()(results_of(paths[0]) | {'extra_audio': (str(paths[1]), 6.0)})['audio']
    padded = [(np.pad(w.mean(1), (0, 5 * rate)), rate) for w, rate in zip(waves, rates, strict=True)]
    mono = [resampy.resample(wave, rate, 16000) if rate != 16000 else wave for wave, rate in padded]
    length = VGGishLogMel().num_samples(5)
    expected = waveform_to_examples(mix_in(mono[0][:length], mono[1][:length], 6.0), 16000, return_tensor=False)
    assert audio.shape == (5, 1, 96, 64) and audio.dtype == np.float32
    assert np.abs(audio - expected[:, None]).max() < 1e-5


def test_an_extra_sound_goes_on_where_the_own_one_has_ended(tmp_path):
    own, other = write(tmp_path / 'a.wav', 0.1 * noise(0.96)), write(tmp_path / 'b.wav', noise(5)[::-1])
    results = results_of(own) | {'extra_audio': (str(other), 0.0)}
    audio = LoadClipAudio()(results)['audio']
    assert (audio[2:] > SILENCE + 1).any((1, 2, 3)).all()
    with pytest.raises(ValueError, match=r'a\.wav has 0\.960 s'):
        LoadClipAudio(on_short='raise')(results)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="'loop'"):
        LoadClipAudio(on_short='loop')


@pytest.mark.parametrize('heard', [{}, {'audio_noise': ('c', 0.1)}, {'extra_audio': ('b.wav', 3.0)}], ids=str)
def test_a_second_row_hears_what_the_first_one_hears(tmp_path, monkeypatch, heard):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / 'a.wav', noise(5))
    write(tmp_path / 'b.wav', noise(5)[::-1])
    step = LoadClipAudio(key='naming_audio', front_end=dict(type='VGGishLogMel'))
    both = step(LoadClipAudio()(results_of('a.wav') | heard))
    assert np.array_equal(both['naming_audio'], both['audio'])
    with pytest.raises(ValueError, match="key must be one of .*got 'sound'"):
        LoadClipAudio(key='sound')


def test_a_second_row_of_sound_needs_a_front_end_of_its_own():
    with pytest.raises(ValueError, match="key='naming_audio' needs the front_end of the model that hears it"):
        LoadClipAudio(key='naming_audio')
