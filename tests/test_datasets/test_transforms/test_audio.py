# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import soundfile
from torchvggish.vggish_input import wavfile_to_examples

from ovavss_mm.datasets import LoadClipAudio, SwapClipAudio
from ovavss_mm.datasets.transforms.audio import log_mel_patches, samples_needed

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
    exact = log_mel_patches(np.pad(wave, [(0, rate), (0, 0)]), rate)[:5]
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
    needed = samples_needed(5, rate)
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
    with pytest.raises(
        ValueError, match=r"short\.wav has 2\.500 s .* 5 frames need 4\.815 s.*'pad'"
    ):
        # Frames that the sound does reach do not help: the file is wrong whatever is drawn.
        LoadClipAudio('raise')(results_of(path, 5, [0, 1]))


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


def test_swap():
    results = {'audio_path': 'own.wav', 'other_audio_path': 'other.wav'}
    assert SwapClipAudio('other')(dict(results))['audio_path'] == 'other.wav'
    assert SwapClipAudio('silence')(dict(results))['audio_path'] is None
    with pytest.raises(ValueError, match='before LoadClipAudio'):
        SwapClipAudio('other')(results | {'audio': 0})


def test_wrong_arguments():
    with pytest.raises(ValueError, match="'loop'"):
        LoadClipAudio(on_short='loop')
    with pytest.raises(ValueError, match="'noise'"):
        SwapClipAudio('noise')
