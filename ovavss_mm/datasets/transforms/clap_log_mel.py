# SPDX-License-Identifier: Apache-2.0
"""CLAP's sound front end: one second a frame, repeated to the length that CLAP was trained with."""

from functools import cached_property
from typing import Any

import numpy as np
from mmseg.registry import TRANSFORMS

from ...utils.foundation import import_transformers
from .front_ends import SoundFrontEnd, pad

INT16 = 32767


@TRANSFORMS.register_module()
class CLAPLogMel(SoundFrontEnd):
    """Log-mels of single seconds as CLAP takes them: rows are float32 (1, frames, mels), in dB.

    Row i is second i, quantised to 16 bit and repeated to ``seconds``. In a clip whose sound is too short the whole
    seconds are kept and the last second of the sound, which may overlap them, follows until the clip is full; a sound
    under a second is repeated. A stream has silence after its end. Defaults are those of LAION's CLAP without fusion:
    rows (1, 1001, 64).

    Args:
        sample_rate (int): in Hz. Defaults to 48000.
        seconds (int): to which a second is repeated. Defaults to 10.
        mels (int): bands, of Slaney's scale. Defaults to 64.
        fft (int): samples of the Hann window. Defaults to 1024.
        hop (int): samples from one spectrum to the next. Defaults to 480.
        min_hz (float): lower end of the bands. Defaults to 50.
        max_hz (float): upper end of the bands. Defaults to 14000.

    Raises:
        ValueError: a value out of range.
    """

    silence_follows = False

    def __init__(
        self,
        sample_rate: int = 48000,
        seconds: int = 10,
        mels: int = 64,
        fft: int = 1024,
        hop: int = 480,
        min_hz: float = 50,
        max_hz: float = 14000,
    ):
        counts = dict(sample_rate=sample_rate, seconds=seconds, mels=mels, fft=fft, hop=hop)
        if wrong := {key: value for key, value in counts.items() if type(value) is not int or value < 1}:
            raise ValueError(f'{next(iter(wrong))} must be a whole number of at least 1, got {wrong}')
        if not 0 <= min_hz < max_hz <= sample_rate / 2:
            raise ValueError(
                f'bands must lie between 0 and half the sample rate ({sample_rate / 2:g} Hz), got {min_hz} to {max_hz}'
            )
        self.sample_rate = self.row_samples = sample_rate
        self.settings: dict[str, float] = dict(
            feature_size=mels, sampling_rate=sample_rate, hop_length=hop, max_length_s=seconds
        )
        self.settings |= dict(fft_window_size=fft, frequency_min=min_hz, frequency_max=max_hz)

    @cached_property
    def extractor(self) -> Any:
        """The library's feature extractor; its defaults are those of CLAP with fusion, which hears otherwise."""
        kind = import_transformers().ClapFeatureExtractor
        return kind(**self.settings, truncation='rand_trunc', padding='repeatpad')

    def fill(self, waveform: np.ndarray, length: int) -> np.ndarray:
        """A waveform (n,) brought to at least ``length`` samples: its last second is repeated, see the class."""
        if len(waveform) >= length or not len(waveform):
            return pad(waveform, length)
        second = self.sample_rate
        whole = len(waveform) // second * second
        return np.concatenate([waveform[:whole], np.resize(waveform[-second:], length - whole)])

    def piece(self, samples: np.ndarray) -> np.ndarray:
        """Samples (n,) quantised to 16 bit, float32 in [-1, 1]."""
        samples = np.clip(samples.astype(np.float32), -1, 1)
        return (samples * np.float32(INT16)).astype(np.int16) / np.float32(INT16)

    def row(self, samples: np.ndarray) -> np.ndarray:
        """Log-mels float32 (1, frames, mels) of the samples of a second."""
        told = self.extractor(self.piece(samples), sampling_rate=self.sample_rate)
        return np.asarray(told['input_features'][0], np.float32)
