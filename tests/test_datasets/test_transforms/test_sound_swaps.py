# SPDX-License-Identifier: Apache-2.0
"""Sounds that are swapped for a test, and mixed in training."""

from collections import Counter

import numpy as np
import pytest
import soundfile

from ovavss_mm.datasets import LoadClipAudio, MixClipAudio, OtherSounds, SwapClipAudio
from ovavss_mm.datasets.samplers import seeded_rng

SILENCE = np.float32(np.log(0.01))
NEGATIVE = ('silence', 'noise', 'other')


def sample(**more) -> dict:
    """A clip beside three others, one of which shows the same."""
    names = dict(own='x', near='y', far='z', away='w')
    clips = [dict(audio_path=f'{name}.wav', num_frames=5, names=(n,)) for name, n in names.items()]
    known = dict(clip_id='c', visible_names=('x', 'y'), other_sounds=OtherSounds(clips))
    return clips[0] | known | more


def labelled(**more) -> dict:
    """The clip with labels, of which the second frame has none."""
    maps = np.full((2, 3, 4), 255, np.uint8)
    maps[0] = 0
    maps[0, 1] = 3
    return sample(annotated=np.array([True, False]), gt_seg_maps=maps, **more)


def test_own_changes_nothing_but_its_name():
    before = sample()
    assert SwapClipAudio('own')(dict(before)) == before | dict(sound='own')


@pytest.mark.parametrize('source', NEGATIVE)
def test_nothing_visible_sounds_where_the_own_sound_is_gone(source):
    found = SwapClipAudio(source)(sample())
    assert found['sound'] == source and found['sound_visible'] is False
    assert found['audio_path'] in (('far.wav', 'away.wav') if source == 'other' else (None,))


@pytest.mark.parametrize(('level', 'name'), [(0, 'off_screen_0dB'), (6.0, 'off_screen_6dB'), (2.5, 'off_screen_2.5dB')])
def test_what_is_seen_still_sounds_below_an_off_screen_sound(level, name):
    found = SwapClipAudio('off_screen', level)(sample())
    assert repr(SwapClipAudio.named(name)) == repr(SwapClipAudio('off_screen', float(level)))
    assert found['sound'] == name and 'sound_visible' not in found and found['audio_path'] == 'own.wav'
    assert found['extra_audio'][0] in ('far.wav', 'away.wav') and found['extra_audio'][1] == level


def test_what_is_drawn_depends_on_clip_and_seed_alone():
    def drawn(source, clip, seed):
        found = SwapClipAudio(source, seed=seed)(sample() | dict(clip_id=clip))
        return found['audio_path'], found.get('audio_noise')

    for source in ('noise', 'other'):
        first = [drawn(source, str(i), seed) for i in range(20) for seed in (0, 1)]
        np.random.seed(5)
        assert first == [drawn(source, str(i), seed) for i in range(20) for seed in (0, 1)]
        assert first[::2] != first[1::2]
    assert len({drawn('noise', str(i), 0) for i in range(20)}) == 20


@pytest.mark.parametrize('step', [SwapClipAudio('silence'), MixClipAudio()], ids=lambda step: type(step).__name__)
def test_sound_is_swapped_once_and_before_it_is_loaded(step):
    with pytest.raises(ValueError, match=f'{type(step).__name__} must come before LoadClipAudio'):
        step(labelled(naming_audio=np.zeros(1)))
    with pytest.raises(ValueError, match='sounds of a data set exclude each other'):
        step(labelled(sound='own'))


def test_what_is_heard(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for i, name in enumerate(('own', 'far', 'away')):
        soundfile.write(f'{name}.wav', 0.1 * rng.standard_normal(5 * 16000) * (i + 1), 16000)
    load = LoadClipAudio()
    alone = {name: load(sample() | dict(audio_path=f'{name}.wav'))['audio'] for name in ('own', 'far', 'away')}
    audio = {source: load(SwapClipAudio(source)(sample()))['audio'] for source in ('own', *NEGATIVE, 'off_screen')}
    assert np.array_equal(audio['own'], alone['own'])
    assert (audio['silence'] == SILENCE).all()
    assert any(np.array_equal(audio['other'], alone[name]) for name in ('far', 'away'))
    assert audio['noise'].std() > 0.1 and not np.array_equal(audio['noise'], audio['own'])
    assert (audio['off_screen'].mean((1, 2, 3)) > audio['own'].mean((1, 2, 3))).all()


# ------------------------------------------------------------------ training
SHARES = dict(silence=0.1, noise=0.15, other=0.2, off_screen=0.25)


def test_shares_of_clips_are_those_asked_for():
    np.random.seed(0)
    mix = MixClipAudio(**SHARES, levels=(-3, 6))
    found = [mix(labelled()) for _ in range(2000)]
    kinds = Counter(result['sound'].split('_')[0] for result in found)
    for source, share in (SHARES | dict(own=0.3)).items():
        assert abs(kinds[source.split('_')[0]] / 2000 - share) < 0.04, source
    levels = [result['extra_audio'][1] for result in found if 'extra_audio' in result]
    assert -3 <= min(levels) < -2 and 5 < max(levels) <= 6
    assert len({result['audio_noise'] for result in found if 'audio_noise' in result}) > 200


@pytest.mark.parametrize('source', [*NEGATIVE, 'off_screen', 'own'])
def test_labels_follow_the_sound(source):
    mix = MixClipAudio(**({} if source == 'own' else {source: 1.0}))
    before, after = labelled()['gt_seg_maps'], mix(labelled())['gt_seg_maps']
    if source in NEGATIVE:
        assert (after[before == 255] == 255).all() and (after[before != 255] == 0).all()
    else:
        assert np.array_equal(after, before)


def test_the_sampler_seeds_what_is_drawn():
    mix = MixClipAudio(**SHARES)

    def drawn(position):
        with seeded_rng(1, position):
            return str({k: v for k, v in mix(labelled()).items() if k in ('sound', 'extra_audio', 'audio_path')})

    first = [drawn(i) for i in range(30)]
    assert first == [drawn(i) for i in range(30)] and len(set(first)) > 4


def test_without_labels_none_can_follow():
    with pytest.raises(ValueError, match='MixClipAudio must come after LoadClipLabels'):
        MixClipAudio(silence=1.0)(sample())


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (lambda: SwapClipAudio('loud'), "must be one of own, silence, .* or such as 'off_screen_6dB', got 'loud'"),
        (lambda: SwapClipAudio('off_screen', level=-30), r'level is in dB under .* -20 \(louder\) to 100, got -30'),
        (lambda: SwapClipAudio('off_screen', level=float('nan')), 'got nan'),
        (lambda: MixClipAudio(silence=0.6, other=0.5), "sum at most 1, got .*'silence': 0.6"),
        (lambda: MixClipAudio(silence=float('nan')), 'got .*nan'),
        (lambda: MixClipAudio(silence='0.5'), "got .*'0.5'"),
        (lambda: MixClipAudio(levels=3), 'levels must be two, .* got 3'),
        (lambda: SwapClipAudio.named('off_screen_1.2.3dB'), "got 'off_screen_1.2.3dB'"),
        (lambda: MixClipAudio(noise=-0.1), "not be negative.*'noise': -0.1"),
        (lambda: MixClipAudio(levels=(6, 0)), r'the least dB under the own sound first, got \(6, 0\)'),
        (lambda: MixClipAudio(levels=(-40, 0)), 'levels is in dB under .*got -40'),
    ],
)
def test_wrong_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()
