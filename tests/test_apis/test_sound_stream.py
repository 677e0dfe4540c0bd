# SPDX-License-Identifier: Apache-2.0
"""Sound arrives at the time stamp at which it is heard."""

import io

import numpy as np
import pytest
import soundfile
import video_files
from video_files import RATE, clicks

from ovavss_mm.apis.sound import PATCH, SoundReader, SoundTrack, track_of_array
from ovavss_mm.apis.sources import VideoSource
from ovavss_mm.datasets.transforms.front_ends import VGGishLogMel

LONG = 60  # seconds


def burst_at(samples: np.ndarray) -> float | None:
    """When the loudest sample of a span is, in seconds from its start; None for silence."""
    loudest = int(np.abs(samples).argmax())
    return loudest / RATE if abs(samples[loudest]) > 0.1 else None


@pytest.fixture(scope='module')
def long_video(tmp_path_factory):
    """A minute with a burst 0.3 s into each second, another place in stereo, on a shifted clock."""
    times = [s + 0.3 for s in range(LONG)]
    sound = clicks(LONG, times, 44100)
    frames = video_files.numbered(LONG, (16, 16))
    path = tmp_path_factory.mktemp('long') / 'long.mp4'
    return video_files.write_mp4(path, frames, 1.0, np.stack([sound, sound]), rate=44100, start=0.5)


def test_sound_stays_with_the_time_stamps_of_a_long_video(long_video):
    """From the first second to the last, to 3 ms, through AAC, resampling and a shifted clock."""
    reader = SoundReader(VideoSource(long_video).sound)
    for second in range(LONG):
        at = burst_at(reader.span(second * RATE, RATE))
        assert at == pytest.approx(0.3, abs=0.006), second


def test_a_patch_holds_the_sound_that_follows_its_time_stamp(long_video):
    """Steps of 10 ms; with two frames a second, the burst is in the first of each two."""
    reader = SoundReader(VideoSource(long_video).sound)
    for half in range(2 * LONG - 1):
        patch = reader.patch(half / 2)
        assert patch.shape == (1, 96, 64) and patch.dtype == np.float32
        loudest = int(patch[0].max(1).argmax())
        expected = 30 if half % 2 == 0 else 80  # the next second's burst, 0.8 s later
        assert abs(loudest - expected) <= 3, half


def test_memory_does_not_grow(long_video):
    reader = SoundReader(VideoSource(long_video).sound)
    held = []
    for second in range(LONG):
        reader.span(second * RATE, PATCH)
        held.append(sum(len(samples) for _, samples in reader._parts))
    assert max(held) < 2 * RATE


def test_same_as_the_training_pipeline():
    """An uncompressed sound gives the very patches that training sees."""
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE)
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format='WAV', subtype='DOUBLE')
    reader = SoundReader(SoundTrack(file.getvalue(), 'noise'))
    expected = VGGishLogMel().row(wave.astype(np.float32)[:PATCH])
    np.testing.assert_allclose(reader.patch(0.0), expected, atol=1e-4)


def test_stereo_is_averaged():
    """As the front end does it, not as FFmpeg does (which is louder)."""
    wave = np.full((RATE, 2), (0.5, 0.1), np.float32)
    reader = SoundReader(track_of_array(wave, RATE))
    np.testing.assert_allclose(reader.span(0, RATE), 0.3, atol=1e-6)


def test_silence_where_there_is_no_sound():
    assert not SoundReader(None).span(5, 100).any()
    reader = SoundReader(track_of_array(np.full(100, 0.5, np.float32), RATE))
    span = reader.span(40, 200)
    assert (span[:60] == 0.5).all() and not span[60:].any()
    assert reader.end == 100


def test_sound_is_read_onwards_only():
    reader = SoundReader(track_of_array(np.zeros(RATE, np.float32), RATE))
    reader.span(100, 10)
    with pytest.raises(ValueError, match='50 was asked for after 100'):
        reader.span(50, 10)


@pytest.mark.parametrize('start', [1.0, -1.0], ids=['late', 'early'])
def test_sound_that_starts_before_or_after_the_picture(start):
    """The track's clock says where the picture starts."""
    wave = clicks(3, [1.5])
    track = track_of_array(wave, RATE)
    reader = SoundReader(SoundTrack(track.file, 'shifted', start))
    assert burst_at(reader.span(0, 4 * RATE)) == pytest.approx(1.5 - start, abs=0.006)


@pytest.mark.parametrize(
    ('sound', 'rate'),
    [(np.zeros((2, 2, 2)), RATE), (np.zeros(9, np.int64), RATE), (np.array([0.1, np.nan]), RATE), (np.zeros(9), 0)],
    ids=['shape', 'dtype', 'nan', 'rate'],
)
def test_bad_arrays(sound, rate):
    with pytest.raises(ValueError, match='sound must be'):
        track_of_array(sound, rate)


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone\.wav'):
        SoundTrack(str(tmp_path / 'gone.wav'), 'x').open()
    (tmp_path / 'text.wav').write_text('no sound')
    with pytest.raises(ValueError, match='cannot be read as sound'):
        SoundTrack(str(tmp_path / 'text.wav'), 'x').open()
    silent = video_files.write_mp4(tmp_path / 'silent.mp4', video_files.numbered(3))
    with pytest.raises(ValueError, match='has no sound in it'):
        SoundTrack(str(silent), 'x').open()
