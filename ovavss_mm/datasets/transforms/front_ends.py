# SPDX-License-Identifier: Apache-2.0
"""Sound front ends: from a waveform to one row of features a frame."""

from collections.abc import Sequence

import numpy as np
from mmseg.registry import TRANSFORMS


class SoundFrontEnd:
    """Base of sound front ends: how much sound a frame hears, and what features it becomes.

    :class:`LoadClipAudio` of the training and test pipelines owns one, and the inferencer takes it from there. A
    subclass sets ``sample_rate`` and ``row_samples`` and overrides :meth:`row`.

    Attributes:
        sample_rate (int): rate of the waveforms it takes, in Hz.
        row_samples (int): samples that one row is made of.
        silence_follows (bool): whether a sound that is too short has silence after it; else :meth:`fill` says what.
    """

    sample_rate: int
    row_samples: int
    silence_follows = True

    def row_start(self, i: int) -> int:
        """First sample of row i, ascending in i; by default that of second i."""
        return i * self.sample_rate

    def row(self, samples: np.ndarray) -> np.ndarray:
        """Features of one row, as the audio encoder takes them.

        Args:
            samples (np.ndarray): float (row_samples,), mono in [-1, 1].

        Returns:
            np.ndarray: float32 of any shape, the same for all rows.
        """
        raise NotImplementedError

    def num_samples(self, num_rows: int) -> int:
        """Samples from the start of a waveform to the end of row ``num_rows - 1``."""
        return self.row_start(num_rows - 1) + self.row_samples

    def fill(self, waveform: np.ndarray, length: int) -> np.ndarray:
        """A waveform (n,) brought to at least ``length`` samples, by default with silence after it."""
        return pad(waveform, length)

    def __call__(self, waveform: np.ndarray, num_rows: int) -> np.ndarray:
        """Features of a clip.

        Args:
            waveform (np.ndarray): float (n,), mono in [-1, 1] at ``sample_rate``; :meth:`fill` makes it long enough.
            num_rows (int): rows, at least 1.

        Returns:
            np.ndarray: float32 (num_rows, ...).
        """
        waveform = self.fill(waveform, self.num_samples(num_rows))
        starts = map(self.row_start, range(num_rows))
        return np.stack([self.row(waveform[at : at + self.row_samples]) for at in starts])


@TRANSFORMS.register_module()
class VGGishLogMel(SoundFrontEnd):
    """Log-mel patches of 0.96 s, as VGGish takes them: rows are float32 (1, 96, 64).

    96 steps of 10 ms, 64 bands, natural logarithm of the magnitude plus 0.01. Patches follow each other without a gap,
    row i begins at 0.96 i s (as published, for the clips of up to 10 frames of AVSBench); longer clips would drift from
    their frames, so every ``resync`` rows they begin again at the frame's own second.

    Args:
        resync (int): rows after which one begins at its frame's second. Defaults to 10.
    """

    sample_rate = 16000
    hop = 15360  # 0.96 s
    row_samples = 15600  # the last of the 96 spectra begins 10 ms before the end and is of 25 ms

    def __init__(self, resync: int = 10):
        if resync < 1:
            raise ValueError(f'resync must be at least 1 row, got {resync}')
        self.resync = resync

    def row_start(self, i: int) -> int:
        """First sample of row i: 0.96 s after that of row i - 1, at second i every ``resync`` rows."""
        block, place = divmod(i, self.resync)
        return block * self.resync * self.sample_rate + place * self.hop

    def row(self, samples: np.ndarray) -> np.ndarray:
        """Log-mel patch float32 (1, 96, 64) of samples (15600,)."""
        return self._patches(samples)[0]

    def __call__(self, waveform: np.ndarray, num_rows: int) -> np.ndarray:
        """As row by row, twice as fast: patches without a gap are made at once."""
        waveform = pad(waveform, self.num_samples(num_rows))
        ends = [(i, min(i + self.resync, num_rows)) for i in range(0, num_rows, self.resync)]
        return np.concatenate([self._patches(waveform[self.row_start(i) : self.num_samples(n)]) for i, n in ends])

    @staticmethod
    def _patches(waveform: np.ndarray) -> np.ndarray:
        """Patches without a gap, float32 (n, 1, 96, 64)."""
        from torchvggish.vggish_input import waveform_to_examples  # here, as it brings in a just-in-time compiler

        patches = waveform_to_examples(waveform, VGGishLogMel.sample_rate, return_tensor=False)
        return patches[:, None].astype(np.float32)


def pad(waveform: np.ndarray, length: int) -> np.ndarray:
    """A waveform (n,) or (n, channels) with silence after it, of at least ``length`` samples."""
    missing = max(length - len(waveform), 0)
    return np.pad(waveform, [(0, missing)] + [(0, 0)] * (waveform.ndim - 1))


# Share of each loudspeaker in one channel, as players mix (ITU-R BS.775): the centre in full; the bass is left out.
WEIGHTS = dict(FL=0.5**0.5, FR=0.5**0.5, FC=1.0, LFE=0.0, LFE2=0.0, BC=0.5**0.5)
SURROUND = 0.5  # of each other one, of more than four less: as much in all as four
# Loudspeakers of so many channels where a file does not name them.
UNNAMED = {
    5: ('FL', 'FR', 'FC', 'BL', 'BR'),
    6: ('FL', 'FR', 'FC', 'LFE', 'BL', 'BR'),
    7: ('FL', 'FR', 'FC', 'LFE', 'BC', 'SL', 'SR'),
    8: ('FL', 'FR', 'FC', 'LFE', 'BL', 'BR', 'SL', 'SR'),
}
CANCELLED = 0.01  # share of the power that is left where channels cancel each other out


def mix(waveform: np.ndarray, speakers: Sequence[str] = ()) -> tuple[np.ndarray, bool]:
    """Mix channels to one: the mean of two or of unknown ones, surround as players do.

    Where the channels cancel each other out, as where one is wired the wrong way round, the first one is taken.

    Args:
        waveform (np.ndarray): float (n, channels).
        speakers (Sequence[str]): the loudspeakers as FFmpeg names them ('FL', 'FC', ...). Defaults to none: those that
            are usual for 5 to 8 channels, else not known.

    Returns:
        tuple: (n,) of the same dtype, and whether they cancel each other out.
    """
    count = waveform.shape[1]
    if len(set(speakers)) != count:  # FFmpeg calls all that it does not know NONE
        speakers = UNNAMED.get(count, ())
    weights = np.full(count, 1 / count)
    if count > 2 and speakers:
        surround = SURROUND * min(1.0, 4 / max(1, len(set(speakers) - set(WEIGHTS))))
        weights = np.array([WEIGHTS.get(name, surround) for name in speakers])
    weights = weights.astype(waveform.dtype)
    mixed, power = waveform @ weights, (waveform**2).mean(0) * weights**2
    cancelled = len(mixed) > 0 and bool((mixed**2).mean() < CANCELLED * power.sum())
    return (waveform[:, int((power > power.max() / 2).argmax())] if cancelled else mixed), cancelled


def to_mono(waveform: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """One channel of float (n,) or (n, channels), mixed by :func:`mix` and resampled to ``new_rate`` Hz.

    Of two channels it is the mean, as in VGGish's own front end; gives float (floor(n * new_rate / rate),).
    """
    if waveform.ndim > 1:
        waveform, _ = mix(waveform)
    if rate == new_rate:
        return waveform
    import resampy  # here, as it brings in a just-in-time compiler

    return resampy.resample(waveform, rate, new_rate)
