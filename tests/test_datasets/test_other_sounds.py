# SPDX-License-Identifier: Apache-2.0
"""Sounds of other clips: what may be drawn for a clip."""

import pickle
import random

import numpy as np
import pytest

from ovavss_mm.datasets import OtherSounds


def clip(name: str, sounding: str, visible: str = '', frames: int = 5, sound: bool = True) -> dict:
    """A sample whose names are letters."""
    seen = tuple(dict.fromkeys(sounding + visible))
    audio = f'{name}.wav' if sound else None
    return dict(clip_id=name, names=tuple(sounding), visible_names=seen, num_frames=frames, audio_path=audio)


def draws(sounds: OtherSounds, of: dict, count: int = 40) -> set[str]:
    return {sounds.draw(of, np.random.RandomState(seed)) for seed in range(count)}


def test_what_is_drawn_is_never_of_a_visible_name():
    rng = random.Random(0)
    clips = [
        clip(str(i), ''.join(rng.sample('abcdef', rng.randint(1, 2))), rng.choice('abcdef'), rng.choice([5, 10]))
        for i in range(60)
    ]
    sounds, names = OtherSounds(clips), {c['audio_path']: c for c in clips}
    for of in clips:
        for path in draws(sounds, of, 10):
            assert set(names[path]['names']).isdisjoint(of['visible_names'])
            assert names[path]['num_frames'] >= of['num_frames']


def test_every_sound_that_fits_is_drawn_and_the_same_one_for_a_seed():
    clips = [clip('a', 'x', 'y'), clip('b', 'y'), clip('c', 'z'), clip('d', 'w'), clip('e', 'v', sound=False)]
    sounds = OtherSounds(clips)
    assert draws(sounds, clips[0]) == {'c.wav', 'd.wav'}
    assert len({sounds.draw(clips[0], np.random.RandomState(3)) for _ in range(5)}) == 1
    again = pickle.loads(pickle.dumps(sounds))
    assert again.draw(clips[0], np.random.RandomState(3)) == sounds.draw(clips[0], np.random.RandomState(3))


def test_shorter_sounds_are_drawn_only_where_there_is_no_longer_one():
    clips = [clip('a', 'x', frames=10), clip('b', 'y'), clip('c', 'z', frames=10)]
    assert draws(OtherSounds(clips), clips[0]) == {'c.wav'}
    assert draws(OtherSounds(clips[:2]), clips[0]) == {'b.wav'}


def test_a_clip_without_a_partner_is_named():
    clips = [clip('a', 'x'), clip('b', 'xy')]
    with pytest.raises(LookupError, match=r"clip b has no partner: each of the 2 sounds .* \(x, y\)\. .*'silence'"):
        OtherSounds(clips).draw(clips[1], np.random.RandomState(0))
    with pytest.raises(LookupError, match='clip a has no partner: .*of unknown names'):
        OtherSounds(clips).draw(clip('a', ''), np.random.RandomState(0))


def test_sounds_of_unknown_source_are_never_drawn():
    clips = [clip('a', 'x'), clip('b', ''), clip('c', 'z') | dict(names=('off-the-screen',)), clip('d', 'w')]
    assert draws(OtherSounds(clips), clips[0]) == {'d.wav'}
