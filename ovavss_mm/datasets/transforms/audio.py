# SPDX-License-Identifier: Apache-2.0
"""Sound: from the wav file of a clip to a row of features a frame."""

import hashlib
import io
import os.path as osp

import numpy as np
import soundfile
from mmcv.transforms import BaseTransform
from mmengine.fileio import get
from mmseg.registry import TRANSFORMS

from ..audio_features import AudioFeatures, audio_key
from .front_ends import pad, to_mono
from .sampling import frame_inds

# A header may say what it likes; beyond these limits no sound is read or resampled.
RATES = (1000, 384_000)  # Hz
MAX_SECONDS = 3600
SILENT_RMS = 1e-4  # of full scale, under which a sound has no loudness that another one could be set to
KEYS = ('audio', 'naming_audio')  # rows of sound: of the network, and of a namer that hears with a front end of its own


def read_wav(path: str) -> tuple[np.ndarray, int]:
    """Read a sound file of any format of libsndfile.

    Returns:
        tuple: float64 (n,) or (n, channels) in [-1, 1], and the sample rate in Hz.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file is no sound that can be read.
        ValueError: it has no samples, some that are not finite, a rate beyond RATES, or more than MAX_SECONDS.
    """
    if osp.exists(path) and not osp.isfile(path):  # a pipe would be waited for
        raise OSError(f'cannot read the sound {path}: it is no regular file')
    content = get(path)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate, frames = file.samplerate, file.frames
            if not RATES[0] <= rate <= RATES[1] or frames > MAX_SECONDS * rate:
                limits = f'{RATES[0]} to {RATES[1]} Hz and up to {MAX_SECONDS} s are read'
                raise ValueError(f'{path} has {frames} samples at {rate} Hz; {limits}')
            waveform = file.read(dtype='float64')
    except soundfile.SoundFileError as err:
        reason = getattr(err, 'error_string', err)  # without the address of the buffer, which str(err) has
        raise OSError(f'cannot read the sound {path}: {reason}') from err
    if not len(waveform):
        raise ValueError(f'{path} has no samples')
    if wrong := np.count_nonzero(~np.isfinite(waveform)):
        raise ValueError(f'{path}: {wrong} samples are not finite')
    return waveform, rate


def seeded_by(text: str) -> np.random.RandomState:
    """Random numbers that follow from a text: the same in any order, batch and process, and of any NumPy."""
    return np.random.RandomState(np.frombuffer(hashlib.sha256(text.encode()).digest(), '<u4'))


def white_noise(seed: str, num_samples: int, rms: float) -> np.ndarray:
    """White noise that follows from a text.

    Returns:
        np.ndarray: float64 (num_samples,), normally distributed, with a root mean square of exactly rms.
    """
    wave = seeded_by(seed).standard_normal(num_samples)
    return wave * (rms / root_mean_square(wave))


def root_mean_square(wave: np.ndarray) -> float:
    """Loudness of a wave (n,)."""
    return float(np.sqrt(np.mean(wave**2)))


def mix_in(own: np.ndarray, extra: np.ndarray, level: float) -> np.ndarray:
    """Add to a wave (n,) another one, brought to ``level`` dB under its loudness.

    Where one of them is silent the other is as loud as it is. A sum beyond full scale is turned down as a whole.
    """
    loudness = root_mean_square(own), root_mean_square(extra)
    if min(loudness) > SILENT_RMS:
        extra = extra * (loudness[0] / loudness[1] * 10 ** (-level / 20))
    total = own + extra
    return total / max(1.0, np.abs(total).max())


@TRANSFORMS.register_module()
class LoadClipAudio(BaseTransform):
    """Read the sound of a clip as a row of features a frame, by a sound front end.

    Reads audio_path (None: silence), num_frames, frame_inds (default: all); sets ``key``, float32 (T, ...), row t for
    frame_inds[t]; (T, 1, 96, 64) for VGGish. Two keys are there only where :class:`SwapClipAudio` or
    :class:`MixClipAudio` has set them: audio_noise, the seed and root mean square of :func:`white_noise` that is
    heard in place of audio_path; and extra_audio, a file and the dB by which :func:`mix_in` adds it less loud than the
    clip's own sound.

    Args:
        front_end (dict, optional): config of a :class:`~ovavss_mm.datasets.SoundFrontEnd`. Defaults to None: for
            'audio' ``dict(type='VGGishLogMel')``.
        on_short (str): what to do with sound too short for the frames of the clip: 'pad' it with silence, or with what
            the front end fills it, or 'raise' an error. Defaults to 'pad'.
        key (str): 'audio', what the network hears, or 'naming_audio', what a model of names such as
            :class:`~ovavss_mm.models.SoundNameScorer` hears beside it: a second step with a front end of its own.
            Defaults to 'audio'.
    """

    reads_files = True  # of a clip; the inferencer has its own sources

    def __init__(self, front_end: dict | None = None, on_short: str = 'pad', key: str = 'audio'):
        if on_short not in ('pad', 'raise'):
            raise ValueError(f"on_short must be 'pad' or 'raise', got {on_short!r}")
        if key not in KEYS:
            raise ValueError(f'key must be one of {KEYS}, got {key!r}')
        if key != 'audio' and front_end is None:
            raise ValueError(f'key={key!r} needs the front_end of the model that hears it, such as CLAPLogMel')
        self.front_end = TRANSFORMS.build(front_end or dict(type='VGGishLogMel'))
        self.on_short, self.key = on_short, key

    def transform(self, results: dict) -> dict:
        """Set the sound.

        Raises:
            OSError: a file is missing or cannot be read.
            ValueError: it is empty, has samples that are not finite, or is too short for its frames and on_short is
                'raise'.
        """
        num_rows, path = results['num_frames'], results['audio_path']
        num_samples = self.front_end.num_samples(num_rows)
        if 'audio_noise' in results:
            seed, rms = results['audio_noise']
            waveform = white_noise(seed, num_samples, rms)
        elif path is None:
            waveform = np.zeros(num_samples)
        else:
            waveform = self._read(path, num_rows, self.on_short)
        if 'extra_audio' in results:
            extra, level = results['extra_audio']
            waveform = mix_in(waveform, self._read(extra, num_rows, 'pad'), level)
        results[self.key] = self.front_end(waveform, num_rows)[frame_inds(results)]
        return results

    def _read(self, path: str, num_rows: int, on_short: str) -> np.ndarray:
        """Sound of a file, mono, at the rate of the front end and as long as its rows."""
        waveform, rate = read_wav(path)
        num_samples, new_rate = self.front_end.num_samples(num_rows), self.front_end.sample_rate
        needed = -(-num_samples * rate // new_rate)  # rounded up
        if len(waveform) < needed and on_short == 'raise':
            raise ValueError(
                f'{path} has {len(waveform) / rate:.3f} s of sound, {num_rows} frames need {needed / rate:.3f} s; '
                "LoadClipAudio(on_short='pad') fills it up"
            )
        if self.front_end.silence_follows:
            waveform = pad(waveform, needed)
        return self.front_end.fill(to_mono(waveform, rate, new_rate), num_samples)[:num_samples]

    def __repr__(self) -> str:
        own = f'{type(self.front_end).__name__}, on_short={self.on_short!r}, key={self.key!r}'
        return f'{type(self).__name__}({own})'


@TRANSFORMS.register_module()
class LoadClipAudioFeatures(BaseTransform):
    """Read the audio embeddings of a clip that were extracted before, in place of :class:`LoadClipAudio`.

    ``tools/dataset_converters/extract_vggish.py`` makes the file. Reads audio_path (None: silence), num_frames,
    frame_inds (default: all); sets audio, float32 (T, Da), row t for frame_inds[t]. Of the sources of
    :class:`SwapClipAudio`, 'noise' and 'off_screen' are not in the file.

    Args:
        features (str): the file of embeddings.
        weights (str): the weights of the audio encoder that made them.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: the first is no file of embeddings, or they were made with other weights.
    """

    reads_files = True  # of a clip; the inferencer has its own sources

    def __init__(self, features: str, weights: str):
        self.features = AudioFeatures(features, weights)

    def transform(self, results: dict) -> dict:
        """Set audio.

        Raises:
            LookupError: the clip is not in the file, or its sound is one that no file has.
            ValueError: it had fewer frames when its embeddings were extracted.
        """
        if 'audio_noise' in results or 'extra_audio' in results:
            raise LookupError(
                f'the sound {results["sound"]!r} of SwapClipAudio or MixClipAudio is made of waveforms, and '
                f'{self.features.path} holds embeddings of files: use LoadClipAudio (a config whose audio encoder '
                "hears log-mel patches), or only 'silence' and 'other'"
            )
        path = results['audio_path']
        rows = self.features.rows(path and audio_key(path), results['num_frames'])
        results['audio'] = rows[frame_inds(results)]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(features={self.features.path!r}, weights={self.features.weights!r})'
