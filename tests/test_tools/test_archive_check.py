# SPDX-License-Identifier: Apache-2.0
"""Every kind of damage is found under its own name, and what is whole passes."""

import os
import shutil
import sys
from pathlib import Path

import archive
import numpy as np
import pytest
import soundfile
from PIL import Image

from ovavss_mm.datasets import IndexedClip
from ovavss_mm.datasets.metadata import clip_names

sys.path.insert(0, str(Path(__file__).parents[2] / 'tools/dataset_converters'))
import archive_check
from archive_check import ERRORS, WARNINGS, ClipReport

CLIPS = (archive.Clip('dog_guitar', 'dog_guitar', 'train', 'v2'), archive.Clip('bird_0', 'bird', 'train', 'v1s'))


def indexed(clips=CLIPS) -> list[tuple[str, IndexedClip]]:
    """Split and clip of each, with the number of frames that its subset should have."""
    return [(c.split, IndexedClip(c.subset, c.uid, archive.NUM_FRAMES[c.subset], clip_names(vars(c)))) for c in clips]


def check(root, clips=CLIPS) -> list[ClipReport]:
    return [archive_check.check_clip(str(root), archive.NAMES, True, {}, c) for c in indexed(clips)]


@pytest.fixture
def own(tmp_path) -> Path:
    """An archive that a test may spoil."""
    return archive.write_archive(tmp_path / 'own', CLIPS)


def test_whole_archive_passes(tmp_path):
    """Odd names, clips whose numbers begin at 1, of one label and of ten frames included."""
    root = archive.write_archive(tmp_path / 'archive')
    for report in check(root, [c for c in archive.CLIPS if c.sound]):
        assert report.findings == [], report
        assert report.usable
        assert report.facts['frames'] in (5, 10)
        assert report.facts['size'] == '{1} x {0}'.format(*archive.SIZE)
        assert report.facts['sound'] == '16000 Hz, 1 channels'
        files = [p for p in (root / report.key).rglob('*') if p.is_file()]
        assert report.facts['bytes'] == sum(p.stat().st_size for p in files)


# --- each kind
def no_clip(folder):
    shutil.rmtree(folder)


def gap(folder):
    (folder / 'frames' / '3.jpg').unlink()


def no_frames_folder(folder):
    shutil.rmtree(folder / 'frames')


def torn_frame(folder):
    path = folder / 'frames' / '3.jpg'
    path.write_bytes(path.read_bytes()[:300])


def small_frame(folder):
    Image.new('RGB', (16, 12)).save(folder / 'frames' / '3.jpg')
    Image.new('RGB', (16, 12)).save(folder / 'labels_rgb' / '3.png')


def no_label(folder):
    (folder / 'labels_rgb' / '3.png').unlink()


def torn_label(folder):
    (folder / 'labels_rgb' / '3.png').write_bytes(b'\x89PNG\r\n')


def small_label(folder):
    Image.new('RGB', (16, 12)).save(folder / 'labels_rgb' / '3.png')


def stray_colour(folder):
    path = folder / 'labels_rgb' / '3.png'
    colors = np.array(Image.open(path))
    colors[0, 0] = (1, 2, 3)
    Image.fromarray(colors).save(path)


def colour_beyond_the_names(folder):
    archive.save_labels(folder / 'labels_rgb' / '3.png', np.full(archive.SIZE, 7, np.uint8))


def torn_sound(folder):
    (folder / 'audio.wav').write_bytes(b'RIFF')


def empty_sound(folder):
    soundfile.write(folder / 'audio.wav', np.zeros(0), 16000)


def unlisted(folder):
    path = folder / 'labels_rgb' / '3.png'
    labels = np.zeros(archive.SIZE, np.uint8)
    labels[:2, :5] = archive.label_index('cat')
    archive.save_labels(path, labels)


def nine_frames(folder):
    (folder / 'frames' / '9.jpg').unlink()
    (folder / 'labels_rgb' / '9.png').unlink()
    soundfile.write(folder / 'audio.wav', np.zeros(16000 * 9), 16000)


def no_sound(folder):
    (folder / 'audio.wav').unlink()


def other_sound(folder):
    (folder / 'audio.wav').rename(folder / 'dog_guitar.WAV')


def sound_of_another_kind(folder):
    (folder / 'audio.wav').rename(folder / 'audio.m4a')


def short_sound(folder):
    soundfile.write(folder / 'audio.wav', np.zeros(44100 * 4), 44100)


def long_sound(folder):
    soundfile.write(folder / 'audio.wav', np.zeros(8000 * 11), 8000)


@pytest.mark.parametrize(
    ('spoil', 'kind', 'text'),
    [
        (no_clip, 'no clip', 'no such folder'),
        (gap, 'frames', '3.jpg is missing'),
        (no_frames_folder, 'frames', 'frames: no such folder'),
        (torn_frame, 'frame unreadable', '3.jpg'),
        (small_frame, 'frame size', 'frames of 16 x 12, 32 x 24 pixels'),
        (no_label, 'labels', '9 labels'),
        (torn_label, 'label unreadable', '3.png'),
        (small_label, 'label size', '3.png has 16 x 12 pixels, its frame 32 x 24'),
        (stray_colour, 'label colour', '3.png: 1 pixels'),
        (colour_beyond_the_names, 'label colour', '3.png: 768 pixels'),
        (torn_sound, 'sound unreadable', 'audio.wav'),
        (empty_sound, 'sound unreadable', 'no samples'),
        (unlisted, 'label not listed', '3.png: cat (10 pixels)'),
        (nine_frames, 'frame number', '9 frames, expected 10'),
        (no_sound, 'no sound', 'no audio.wav'),
        (sound_of_another_kind, 'no sound', 'no audio.wav, but audio.m4a; convert it: ffmpeg'),
        (other_sound, 'sound name', 'dog_guitar.WAV is taken'),
        (short_sound, 'sound short', '4.000 s for 10 frames, 5.615 s are padded'),
        (long_sound, 'sound long', '11.000 s for 10 frames'),
    ],
)
def test_damage(own, spoil, kind, text):
    spoil(own / 'v2' / 'dog_guitar')
    report, other = check(own)
    assert [k for k, _ in report.findings] == [kind]
    assert text in report.findings[0][1]
    assert str(own) in report.findings[0][1] or 'dog_guitar' in report.findings[0][1]
    assert report.usable == (kind in WARNINGS)
    assert (kind in ERRORS) != (kind in WARNINGS)
    assert other.findings == []


def test_all_kinds_of_damage_are_tested():
    (mark,) = test_damage.pytestmark
    assert {kind for _, kind, _ in mark.args[1]} == {*ERRORS, *WARNINGS}


def test_other_damage_is_found_as_well(own):
    folder = own / 'v2' / 'dog_guitar'
    torn_frame(folder)
    stray_colour(folder)
    torn_sound(folder)
    kinds = [kind for kind, _ in check(own)[0].findings]
    # The label of the torn frame has no size to be compared with.
    assert kinds == ['frame unreadable', 'sound unreadable']
    (folder / 'labels_rgb' / '4.png').unlink()
    assert 'labels' in [kind for kind, _ in check(own)[0].findings]


def test_second_label_of_a_v1s_training_clip(own):
    shutil.copy(own / 'v1s' / 'bird_0' / 'labels_rgb' / '0.png', own / 'v1s' / 'bird_0' / 'labels_rgb' / '1.png')
    assert [kind for kind, _ in check(own)[1].findings] == ['labels']


@pytest.mark.parametrize('rate', [8000, 16000, 44100])
def test_sound_may_lack_and_exceed_a_little(own, rate):
    """Ten patches of 0.96 s and the 15 ms of a last window, rounded up, are enough; half a second is no more."""
    path, needed = own / 'v2' / 'dog_guitar' / 'audio.wav', -(-rate * 9615 // 1000)
    for samples, kinds in ((needed, []), (needed - 1, ['sound short']), (rate * 10.5, [])):
        soundfile.write(path, np.zeros(int(samples)), rate)
        assert [kind for kind, _ in check(own)[0].findings] == kinds


# --- results that are kept
def run(root, cache, **kwargs) -> list[ClipReport]:
    args = dict(names=archive.NAMES, expect_frames=True, cache=str(cache), workers=0) | kwargs
    return list(archive_check.check_clips(str(root), indexed(), **args))


def test_unchanged_clips_are_not_read_again(own, tmp_path, monkeypatch):
    cache = tmp_path / 'out' / 'check.jsonl'
    stray_colour(own / 'v2' / 'dog_guitar')
    first = run(own, cache)
    monkeypatch.setattr(archive_check, 'find_frames', None)
    assert run(own, cache) == first
    assert len(cache.read_text().splitlines()) == 2


def test_changed_clips_are_read_again(own, tmp_path):
    cache = tmp_path / 'check.jsonl'
    assert all(r.usable for r in run(own, cache))
    stray_colour(own / 'v2' / 'dog_guitar')
    os.utime(own / 'v2' / 'dog_guitar' / 'labels_rgb' / '3.png', ns=(1, 1))
    assert [r.usable for r in run(own, cache)] == [False, True]
    assert len(cache.read_text().splitlines()) == 3


def test_other_names_are_another_check(own, tmp_path):
    cache = tmp_path / 'check.jsonl'
    run(own, cache)
    assert [r.usable for r in run(own, cache, names=archive.NAMES[:3])] == [False, True]


def test_torn_and_strange_lines_are_passed_over(own, tmp_path):
    cache = tmp_path / 'check.jsonl'
    first = run(own, cache)
    whole = cache.read_bytes()
    lines = whole.splitlines(keepends=True)
    cache.write_bytes(lines[0] + b'{}\nnonsense\n' + lines[1][:20])
    assert list(archive_check.read_cache(str(cache))) == [first[0].key]
    assert run(own, cache) == first
    assert cache.read_bytes() == lines[0] + b'{}\nnonsense\n' + lines[1]


def test_workers_give_the_same(own, tmp_path):
    torn_sound(own / 'v1s' / 'bird_0')
    expected = run(own, tmp_path / 'a')
    assert run(own, tmp_path / 'b', workers=2) == expected
    assert (tmp_path / 'b').read_bytes() == (tmp_path / 'a').read_bytes()
