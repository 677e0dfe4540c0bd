# SPDX-License-Identifier: Apache-2.0
"""Sound arrives at the time stamp at which it is heard, whatever its channels are."""

from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
import video_files
from video_files import RATE, clicks

from ovavss_mm.apis.video.sound import SoundReader, SoundTrack, track_of_array
from ovavss_mm.apis.video.sources import open_source
from ovavss_mm.apis.video.video_source import VideoSource
from ovavss_mm.datasets.transforms.front_ends import UNNAMED, mix

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


# ------------------------------------------------------------------ channels
@pytest.mark.parametrize('subtype', ['PCM_U8', 'PCM_16', 'PCM_24', 'PCM_32', 'FLOAT', 'DOUBLE'])
@pytest.mark.parametrize('count', [1, 2, 3, 4, 7, 8, 9, 16, 64])
def test_any_number_of_channels_and_sample_format(tmp_path, count, subtype):
    """All channels alike are heard as one; unnamed surround has its loudspeakers in the usual order."""
    wave = np.repeat(0.1 * np.sin(np.arange(4000) * 0.3)[:, None], count, 1)
    path = tmp_path / 'a.wav'
    soundfile.write(path, wave, RATE, format='WAV', subtype=subtype)
    samples = SoundReader(SoundTrack(str(path), 'a'), RATE).span(0, 4000)
    gain = (samples @ wave[:, 0]) / (wave[:, 0] @ wave[:, 0])
    assert gain == pytest.approx({7: 4.1213, 8: 4.4142}.get(count, 1.0), rel=0.02)


@pytest.mark.parametrize('channels', [6, 8])
def test_surround_is_mixed_as_players_do(tmp_path, channels):
    """The centre in full, left and right 3 dB below, the bass not at all; 8 planar channels ended the process."""
    sound = np.zeros((channels, RATE), np.float32)
    tone = 0.2 * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE).astype(np.float32)
    gains = {}
    for speaker, index in (('left', 0), ('centre', 2), ('bass', 3)):
        sound[:] = 0
        sound[index] = tone
        video = video_files.write_mp4(tmp_path / 'a.mp4', video_files.numbered(10), sound=sound, rate=RATE)
        samples = SoundReader(open_source(video).sound, RATE).span(0, RATE)
        gains[speaker] = np.abs(samples[4000:12000]).max() / 0.2
    assert gains == pytest.approx(dict(left=0.707, centre=1.0, bass=0.0), abs=0.04)


def test_more_loudspeakers_are_not_louder():
    """Eight beside and above, as of 7.1.4, count as much as the four of 7.1."""
    above = ('TFL', 'TFR', 'TBL', 'TBR')
    gains = [mix(np.ones((10, len(s)), np.float32), s)[0][0] for s in (UNNAMED[8], UNNAMED[8] + above)]
    assert gains[0] == pytest.approx(gains[1])


def test_channels_that_cancel_out_are_noticed():
    """One of them is heard then; channels that only differ are mixed."""
    left = clicks(2, [0.5, 1.5])
    for right, cancelled in ((-left, True), (np.zeros_like(left), False), (np.roll(left, 1000), False)):
        track = track_of_array(np.stack([left, right], 1), RATE)
        samples = SoundReader(track, RATE).span(0, 2 * RATE)
        expected = left if cancelled else (left + right) / 2
        np.testing.assert_allclose(samples, expected, atol=1e-6)
        assert (track.cancelled > 0) == cancelled


def test_arrays_may_have_channels_first():
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 500)).astype(np.float32)
    spans = [SoundReader(track_of_array(array, RATE), RATE).span(0, 500) for array in (wave, wave.T)]
    np.testing.assert_array_equal(*spans)
    with pytest.raises(ValueError, match=r'\(n, channels\) or \(channels, n\), got float64 \(65, 65\)'):
        track_of_array(np.zeros((65, 65)), RATE)


# ------------------------------------------------------------------ tracks
def tracks(path, marked: list[bool]):
    """A video with a sound track for each flag, marked as default or not; track i has a click at 0.2 i s."""
    with av.open(str(path), 'w') as file:
        video = file.add_stream('libx264', rate=10)
        video.height, video.width, video.pix_fmt = 32, 48, 'yuv420p'
        sounds = [file.add_stream('aac', rate=RATE, layout='mono') for _ in marked]
        for stream, default in zip(sounds, marked, strict=True):
            stream.disposition = av.stream.Disposition.default if default else 0
        for image in video_files.numbered(10):
            file.mux(video.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
        file.mux(video.encode(None))
        for number, stream in enumerate(sounds, 1):
            frame = av.AudioFrame.from_ndarray(clicks(1, [0.2 * number])[None], 'fltp', 'mono')
            frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), 0
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ('marked', 'asked', 'taken'),
    [([False, True], None, 2), ([True, False], None, 1), ([False, False, True], 1, 1), ([True, True], 2, 2)],
)
def test_the_default_track_is_taken_or_the_one_asked_for(tmp_path, marked, asked, taken):
    source = open_source(tracks(tmp_path / 'a.mkv', marked), asked)
    assert burst_at(SoundReader(source.sound, RATE).span(0, RATE)) == pytest.approx(0.2 * taken, abs=0.08)
    assert f'has {len(marked)} sound tracks: number {taken} is taken' in source.notes[0]


def test_a_track_of_an_unknown_format_is_passed_over(tmp_path):
    path = tracks(tmp_path / 'a.mkv', [True, False])
    path.write_bytes(path.read_bytes().replace(b'A_AAC', b'A_XYZ', 1))
    source = open_source(path)
    assert burst_at(SoundReader(source.sound, RATE).span(0, RATE)) == pytest.approx(0.4, abs=0.08)
    with pytest.raises(ValueError, match='sound track 1 of .* is of a format that is not known'):
        open_source(path, 1)
    with pytest.raises(ValueError, match=r'a\.mkv has 2; got 3'):
        open_source(dict(video=path, audio_track=3))


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
