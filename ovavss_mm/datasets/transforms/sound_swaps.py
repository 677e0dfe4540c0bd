# SPDX-License-Identifier: Apache-2.0
"""Sounds that are not those of the picture: for tests of what a model hears, and for training it to hear."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from .audio import KEYS, seeded_by
from .loading import UNANNOTATED

NOISE_RMS = 0.1  # of full scale, which is 1; about as loud as music
NOISE_RANGE = (0.02, 0.2)  # of training
OFF_SCREEN = 'off_screen'
SOURCES = ('own', 'silence', 'noise', 'other', OFF_SCREEN)
LOUDEST = -20  # dB under the clip's own sound: more would be another sound with the clip's own in its background


class SoundSwap(BaseTransform):
    """Base of what changes the sound of a clip before LoadClipAudio reads it."""

    reads_files = True  # of a clip; the inferencer has its own sources

    def swap(self, results: dict, source: str, level: float, rms: float, rng: Any) -> dict:
        """Set what is heard; see :class:`SwapClipAudio` for source and level.

        Raises:
            LookupError: no other clip's sound fits.
            ValueError: the sound has been loaded or swapped already.
        """
        if any(key in results for key in KEYS):
            raise ValueError(f'{type(self).__name__} must come before LoadClipAudio: the sound is loaded')
        if 'sound' in results:
            raise ValueError(
                'the sound is swapped already: SwapClipAudio, MixClipAudio and sounds of a data set exclude each other'
            )
        results['sound'] = f'{OFF_SCREEN}_{level:g}dB' if source == OFF_SCREEN else source
        if source == OFF_SCREEN:
            results['extra_audio'] = (results['other_sounds'].draw(results, rng), level)
        elif source != 'own':
            results['sound_visible'] = False
            results['audio_path'] = results['other_sounds'].draw(results, rng) if source == 'other' else None
            if source == 'noise':
                results['audio_noise'] = (f'{results["clip_id"]}/{rng.randint(2**31)}', rms)
        return results


def check_level(name: str, level: float) -> None:
    """Raise ValueError for a level that drowns the clip's own sound, or is no number."""
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not LOUDEST <= level <= 100:
        raise ValueError(
            f'{name} is in dB under the loudness of the own sound, from {LOUDEST} (louder) to 100, got {level!r}'
        )


@TRANSFORMS.register_module()
class SwapClipAudio(SoundSwap):
    """Replace the sound of a clip, to see how much a model uses it. Goes before LoadClipAudio.

    ============== =================================================================================== ================
    source         what is heard                                                                       visible objects
    ============== =================================================================================== ================
    ``own``        the clip's own sound: nothing is changed                                            sound as labelled
    ``silence``    nothing                                                                             do not sound
    ``noise``      white noise as long as the clip, root mean square 0.1 of full scale                 do not sound
    ``other``      the sound of another clip of the split, whose sounding names are not visible here:  do not sound
                   see :class:`~ovavss_mm.datasets.OtherSounds`
    ``off_screen`` the clip's own sound, with such another one added: what is seen and labelled still  sound as labelled
                   sounds, something unseen sounds too
    ============== =================================================================================== ================

    What is drawn depends on clip_id and seed alone. Reads other_sounds; sets sound, the source (with the level:
    'off_screen_6dB'), by which :class:`OVIoUMetric` tells its figures apart; audio_path (``silence``, ``noise``,
    ``other``), audio_noise (``noise``) or extra_audio (``off_screen``); and, where visible objects do not sound any
    more, sound_visible, False: the metric then counts all labelled frames of the clip in its rates.

    Args:
        source (str): 'own', 'silence', 'noise', 'other' or 'off_screen'.
        level (float): dB by which the sound from off the screen is less loud than the clip's own, by the root mean
            squares of both. Defaults to 0: equally loud.
        seed (int): of what is drawn. Defaults to 0.

    Raises:
        ValueError: an unknown source, or a level that is not from -20 to 100 dB.
    """

    def __init__(self, source: str, level: float = 0.0, seed: int = 0):
        if source not in SOURCES:
            raise ValueError(f"must be one of {', '.join(SOURCES)}, or such as 'off_screen_6dB', got {source!r}")
        check_level('level', level)
        self.source, self.level, self.seed = source, level, seed

    @classmethod
    def named(cls, name: str, seed: int = 0) -> 'SwapClipAudio':
        """One by the name that its results have: the source, or such as 'off_screen_6dB'.

        Raises:
            ValueError: no such name.
        """
        match = re.fullmatch(rf'{OFF_SCREEN}_(-?\d+(\.\d+)?)dB', str(name))
        return cls(OFF_SCREEN, float(match[1]), seed) if match else cls(name, seed=seed)

    def transform(self, results: dict) -> dict:
        """Set what the source says, see :meth:`SoundSwap.swap`."""
        return self.swap(results, self.source, self.level, NOISE_RMS, seeded_by(f'{results["clip_id"]}/{self.seed}'))

    def __repr__(self) -> str:
        return f'{type(self).__name__}(source={self.source!r}, level={self.level}, seed={self.seed})'


@TRANSFORMS.register_module()
class MixClipAudio(SoundSwap):
    """Give a share of the training clips other sound, and labels that follow.

    Goes between LoadClipLabels and LoadClipAudio. Sources are those of :class:`SwapClipAudio`: with 'silence', 'noise'
    and 'other' nothing visible sounds, so all of the clip's annotated pixels become background; with 'off_screen'
    labels stay. AVSBench-Robust found that such negatives, as many as there are clips with their own sound, bring the
    false positives of other models near zero.

    Args:
        silence (float): share of clips without sound. Defaults to 0.
        noise (float): with white noise of a root mean square of 0.02 to 0.2. Defaults to 0.
        other (float): with the sound of something that is not visible. Defaults to 0.
        off_screen (float): with such a sound on top of their own. Defaults to 0.
        levels (Sequence[float]): dB, least and greatest, by which that one is less loud than their own. Defaults to
            (0, 12).

    Raises:
        ValueError: a share that is negative or no number, or shares whose sum is over 1; levels that are none.
    """

    def __init__(
        self,
        silence: float = 0.0,
        noise: float = 0.0,
        other: float = 0.0,
        off_screen: float = 0.0,
        levels: Sequence[float] = (0.0, 12.0),
    ):
        self.shares = dict(silence=silence, noise=noise, other=other, off_screen=off_screen)
        numbers = all(isinstance(share, (int, float)) and share >= 0 for share in self.shares.values())
        if not numbers or sum(self.shares.values()) > 1 + 1e-9:
            raise ValueError(f'shares of clips must not be negative, and their sum at most 1, got {self.shares}')
        is_pair = isinstance(levels, Sequence) and len(levels) == 2
        for level in levels if is_pair else ():
            check_level('levels', level)
        if not is_pair or levels[0] > levels[1]:
            raise ValueError(f'levels must be two, the least dB under the own sound first, got {levels!r}')
        self.levels = (levels[0], levels[1])

    def transform(self, results: dict) -> dict:
        """Draw a source and set what it says; ValueError without labels that could follow."""
        if 'annotated' not in results:
            raise ValueError('MixClipAudio must come after LoadClipLabels: labels follow the sound')
        place, level = np.random.random(), np.random.uniform(*self.levels)
        rms = float(np.exp(np.random.uniform(*np.log(NOISE_RANGE))))
        ends = np.cumsum(list(self.shares.values()))
        source = [*self.shares, 'own'][np.searchsorted(ends, place, side='right')]
        results = self.swap(results, source, level, rms, np.random)
        if 'sound_visible' in results and 'gt_seg_maps' in results:
            labels = results['gt_seg_maps']
            labels[labels != UNANNOTATED] = 0
        return results

    def __repr__(self) -> str:
        shares = ', '.join(f'{name}={share}' for name, share in self.shares.items())
        return f'{type(self).__name__}({shares}, levels={self.levels})'
