# SPDX-License-Identifier: Apache-2.0
"""Sound arrives at the time stamp at which it is heard."""

import numpy as np
import pytest
import video_files
from video_files import RATE, clicks

from ovavss_mm.apis.video.sound import SoundReader, SoundTrack, track_of_array
from ovavss_mm.apis.video.video_source import VideoSource

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
    reader = SoundReader(VideoSource(long_video).sound, RATE)
    for second in range(LONG):
        at = burst_at(reader.span(second * RATE, RATE))
        assert at == pytest.approx(0.3, abs=0.006), second


@pytest.mark.parametrize('rate', [8000, 32000])
def test_any_sample_rate(long_video, rate):
    """The one that a front end asks for; half a second later, the next second's burst is 0.8 s away."""
    reader = SoundReader(VideoSource(long_video).sound, rate)
    for half in range(2 * LONG - 1):
        samples = reader.span(half * rate // 2, rate)
        loudest = int(np.abs(samples).argmax()) / rate
        assert loudest == pytest.approx(0.3 if half % 2 == 0 else 0.8, abs=0.006), half


def test_memory_does_not_grow(long_video):
    reader = SoundReader(VideoSource(long_video).sound, RATE)
    held = []
    for second in range(LONG):
        reader.span(second * RATE, RATE)
        held.append(sum(len(samples) for _, samples in reader._parts))
    assert max(held) < 3 * reader.rate


def test_stereo_is_averaged():
    """As the front end does it, not as FFmpeg does (which is louder)."""
    wave = np.full((RATE, 2), (0.5, 0.1), np.float32)
    reader = SoundReader(track_of_array(wave, RATE), RATE)
    np.testing.assert_allclose(reader.span(0, RATE), 0.3, atol=1e-6)


def test_silence_where_there_is_no_sound():
    assert not SoundReader(None, RATE).span(5, 100).any()
    reader = SoundReader(track_of_array(np.full(100, 0.5, np.float32), RATE), RATE)
    span = reader.span(40, 200)
    assert (span[:60] == 0.5).all() and not span[60:].any()
    assert reader.end == 100


def test_sound_is_read_onwards_only():
    """A second is kept, as a front end's rows may begin before the last one asked for."""
    reader = SoundReader(track_of_array(np.arange(3 * RATE, dtype=np.float32) / 2**20, RATE), RATE)
    reader.span(2 * RATE, 10)
    assert reader.span(RATE, 2)[1] == (RATE + 1) / 2**20
    with pytest.raises(ValueError, match='15999 was asked for after 16000'):
        reader.span(RATE - 1, 10)


@pytest.mark.parametrize('start', [1.0, -1.0], ids=['late', 'early'])
def test_sound_that_starts_before_or_after_the_picture(start):
    """The track's clock says where the picture starts."""
    wave = clicks(3, [1.5])
    track = track_of_array(wave, RATE)
    reader = SoundReader(SoundTrack(track.file, 'shifted', start), RATE)
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
