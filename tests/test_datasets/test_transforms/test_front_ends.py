# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import soundfile
from mmseg.registry import TRANSFORMS

from ovavss_mm.datasets import LoadClipAudio
from ovavss_mm.datasets.transforms.audio import mix_in, white_noise
from ovavss_mm.datasets.transforms.front_ends import SoundFrontEnd, VGGishLogMel, to_mono


def noise(num_samples: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, num_samples)


class ThreeTokens(SoundFrontEnd):
    """Three tokens a second of 32 kHz sound: loudness, and the samples' mean."""

    sample_rate = 32000
    row_samples = 32000

    def row(self, samples):
        parts = samples.reshape(3, -1) if len(samples) % 3 == 0 else samples[:31998].reshape(3, -1)
        return np.stack([parts.std(1), parts.mean(1)], 1).astype(np.float32)  # (3, 2)


@pytest.fixture(autouse=True)
def registered():
    TRANSFORMS.register_module(module=ThreeTokens, force=True)
    yield
    TRANSFORMS.module_dict.pop('ThreeTokens')


@pytest.mark.parametrize('front_end', [VGGishLogMel(), VGGishLogMel(resync=3), ThreeTokens()])
@pytest.mark.parametrize('num_rows', [1, 5, 23])
def test_a_clip_is_what_its_rows_are(front_end, num_rows):
    """The inferencer makes row by row what the data set makes at once; silence follows."""
    wave = noise(front_end.num_samples(num_rows) - 5000)
    padded = np.pad(wave, (0, 5000))
    starts = [front_end.row_start(i) for i in range(num_rows)]
    rows = [front_end.row(padded[at : at + front_end.row_samples]) for at in starts]
    whole = front_end(wave, num_rows)
    assert whole.dtype == np.float32 and len(whole) == num_rows
    np.testing.assert_allclose(whole, rows, atol=1e-6)


def test_vggish_keeps_step_with_long_clips():
    """As published up to the longest clip of AVSBench, never more than 0.36 s early after it."""
    front_end = VGGishLogMel()
    starts = [front_end.row_start(i) for i in range(3600)]
    assert starts[:10] == [15360 * i for i in range(10)]
    assert starts[10:3600:10] == [16000 * i for i in range(10, 3600, 10)]
    early = [16000 * i - at for i, at in enumerate(starts)]
    assert min(early) == 0 and max(early) == 9 * 640
    with pytest.raises(ValueError, match='at least 1 row, got 0'):
        VGGishLogMel(resync=0)


@pytest.mark.parametrize('rate', [8000, 32000, 44100])
def test_another_front_end_hears_files_at_its_own_rate(tmp_path, rate):
    wave = noise(5 * rate)
    soundfile.write(tmp_path / 'a.wav', np.stack([wave, wave], 1), rate, 'DOUBLE')
    load = LoadClipAudio(front_end=dict(type='ThreeTokens'))
    results = dict(audio_path=str(tmp_path / 'a.wav'), num_frames=5, frame_inds=np.array([0, 3]))
    audio = load(results)['audio']
    assert audio.shape == (2, 3, 2)
    expected = ThreeTokens()(to_mono(wave, rate, 32000), 5)[[0, 3]]
    np.testing.assert_allclose(audio, expected, atol=1e-6)


def test_sounds_are_mixed_at_the_rate_of_the_front_end(tmp_path):
    own, other = 0.1 * noise(5 * 32000), 0.1 * noise(5 * 32000)[::-1]
    for name, wave in (('a', own), ('b', other)):
        soundfile.write(tmp_path / f'{name}.wav', wave, 32000, 'DOUBLE')
    results = dict(audio_path=str(tmp_path / 'a.wav'), num_frames=5)
    load = LoadClipAudio(front_end=dict(type='ThreeTokens'))
    audio = load(results | dict(audio_noise=('c', 0.2)))['audio']
    np.testing.assert_allclose(audio, ThreeTokens()(white_noise('c', 160000, 0.2), 5), atol=1e-6)
    audio = load(results | dict(extra_audio=(str(tmp_path / 'b.wav'), 3.0)))['audio']
    np.testing.assert_allclose(audio, ThreeTokens()(mix_in(own, other, 3.0), 5), atol=1e-6)
