# SPDX-License-Identifier: Apache-2.0
"""Every second is labelled and in sync, whatever the clocks of a file do."""

from pathlib import Path

import av
import numpy as np
import pytest
from video_files import clicks, number_of, numbered, remux, write_mp4

from ovavss_mm.apis.video.base import frames_at
from ovavss_mm.apis.video.sound import SoundReader
from ovavss_mm.apis.video.sources import open_source

RATE = 16000


def shown(source) -> list[int]:
    """Number of the frame that stands at each second."""
    return [number_of(rgb) for _, rgb in frames_at(source, 1)]


def heard(source, seconds: int) -> list[float | None]:
    """When the click of each second is heard, in seconds from the first picture; None where there is none."""
    reader = SoundReader(source.sound, RATE)
    spans = [np.abs(reader.span(second * RATE, RATE)) for second in range(seconds)]
    return [second + span.argmax() / RATE if span.max() > 0.1 else None for second, span in enumerate(spans)]


def write_silent(path: Path, kind: str, codec: str, count: int) -> Path:
    """Numbered frames of a format and a codec, 25 a second."""
    with av.open(str(path), 'w', format=kind) as file:
        stream = file.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, 'yuv420p'
        for image in numbered(count):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
        file.mux(stream.encode(None))
    return path


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    """Three seconds, a click half a second into each."""
    path = tmp_path_factory.mktemp('clock') / 'a.mp4'
    return write_mp4(path, numbered(30), 10.0, clicks(3, [0.5, 1.5, 2.5]))


@pytest.fixture(scope='module')
def stream(recording):
    """The same as a transport stream."""
    return remux(recording, recording.with_suffix('.ts'))


def test_a_transport_stream_is_whole(stream):
    source = open_source(stream)
    assert (source.damage, source.notes) == (None, [])
    assert shown(source) == [0, 10, 20]
    assert heard(source, 3) == pytest.approx([0.5, 1.5, 2.5], abs=0.01)


@pytest.mark.parametrize('shift', [0.0, 7200.0], ids=['restart', 'jump'])
@pytest.mark.parametrize('count', [2, 3])
def test_joined_recordings_follow_each_other_in_sync(recording, stream, tmp_path, shift, count):
    other = remux(recording, tmp_path / 'b.ts', dict(video=shift, audio=shift))
    path = tmp_path / 'joined.ts'
    path.write_bytes(stream.read_bytes() + other.read_bytes() * (count - 1))
    source = open_source(path)
    assert source.damage is None and len(source.notes) == count - 1
    assert 'the clock of joined restarts or jumps' in source.notes[0]
    assert source.duration == pytest.approx(3 * count, abs=0.5)
    found = heard(source, 3 * count)
    numbers = [number_of(rgb) for _, rgb in frames_at(source, 10)]
    for part in range(count):  # the picture of each click is that of its half second
        first = [i for i, number in enumerate(numbers) if number == 5][part]
        click = min(time - 0.5 for time in found if time is not None and abs(time - first / 10) < 0.3)
        assert click + 0.5 == pytest.approx(first / 10, abs=0.11)


def test_a_part_without_pictures_shows_the_last_one(stream, tmp_path):
    content = stream.read_bytes()
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    sound = [packet for packet in packets if int.from_bytes(packet[1:3], 'big') & 0x1FFF != 0x100]
    path = tmp_path / 'joined.ts'
    path.write_bytes(content + b''.join(sound))
    source = open_source(path)
    assert shown(source)[:6] == [0, 10, 20, 29, 29, 29]


def test_a_picture_lasts_until_the_end_of_the_sound(tmp_path):
    """As in a screen recording, where nothing moves any more."""
    path = write_mp4(tmp_path / 'a.mp4', numbered(3), [0.0, 0.5, 1.2], clicks(6, [0.5, 5.5]))
    source = open_source(path)
    assert source.duration == pytest.approx(6.0, abs=0.1)
    assert shown(source) == [0, 1, 2, 2, 2, 2]
    assert heard(source, 6)[-1] == pytest.approx(5.5, abs=0.01)
    assert source.damage is None


def test_sound_a_little_longer_than_the_pictures_adds_no_second(tmp_path):
    path = write_mp4(tmp_path / 'a.mp4', numbered(30), 10.0, clicks(3.2, [0.5]))
    assert shown(open_source(path)) == [0, 10, 20]


def test_longer_sound_in_matroska_is_no_damage(tmp_path):
    """The announced duration is that of the sound."""
    path = write_mp4(tmp_path / 'a.mkv', numbered(20), 10.0, clicks(4, [0.5, 3.5]))
    source = open_source(path)
    assert shown(source) == [0, 10, 19, 19] and source.damage is None


@pytest.mark.parametrize('late', ['video', 'audio'])
def test_a_stream_that_starts_late(recording, tmp_path, late):
    path = remux(recording, tmp_path / 'a.mkv', {late: 2.0})
    source = open_source(path)
    if late == 'video':
        assert heard(source, 1) == pytest.approx([0.5], abs=0.07)
        assert 'begin 2.0' in source.notes[0] and 'is left out' in source.notes[0]
    else:
        assert heard(source, 5) == [None, None, *(pytest.approx(t, abs=0.07) for t in (2.5, 3.5, 4.5))]
        assert source.notes == []
    assert source.damage is None


@pytest.mark.parametrize('kind', ['video', 'audio', 'zeroed'])
def test_lost_packets_are_damage(stream, tmp_path, kind):
    """One packet of 188 bytes that never arrived, or is empty."""
    content = stream.read_bytes()
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    pid = 0x101 if kind == 'audio' else 0x100
    at = [i for i, packet in enumerate(packets) if int.from_bytes(packet[1:3], 'big') & 0x1FFF == pid][4]
    packets[at] = bytes(188) if kind == 'zeroed' else b''
    path = tmp_path / 'lost.ts'
    path.write_bytes(b''.join(packets))
    assert 'incomplete or missing' in open_source(path).damage


def test_segments_of_a_broadcast_are_no_damage(recording, stream, tmp_path):
    """The clock goes on, the count of packets starts anew."""
    path = tmp_path / 'joined.ts'
    later = remux(recording, tmp_path / 'b.ts', dict(video=3.0, audio=3.0))
    path.write_bytes(stream.read_bytes() + later.read_bytes())
    source = open_source(path)
    assert (source.damage, source.notes) == (None, []) and len(shown(source)) == 6


@pytest.mark.parametrize('kind', ['ts', 'mkv', 'flv', 'mp4', 'avi', 'wmv'])
def test_a_file_that_was_cut_off_is_damaged(recording, tmp_path, kind):
    """And a whole one is not."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * RATE)
    whole = write_mp4(
        tmp_path / f'a.{kind}', numbered(30), 10.0, sound, options={'movflags': 'faststart'} if kind == 'mp4' else None
    )
    assert open_source(whole).damage is None
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3 + 1])
    source = open_source(whole)
    assert source.damage is not None and 1 <= len(shown(source)) < 4


def test_an_ogg_file_that_was_cut_off_is_damaged(tmp_path):
    path = write_silent(tmp_path / 'a.ogv', 'ogg', 'libvpx', 30)
    assert open_source(path).damage is None
    path.write_bytes(path.read_bytes()[:-200])
    assert open_source(path).damage == 'it is cut off'


def test_a_stretch_without_picture_and_sound_is_damage(tmp_path):
    """Matroska goes on behind it in silence."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 6 * RATE)
    path = write_mp4(tmp_path / 'a.mkv', numbered(60), 10.0, sound, options={'cluster_time_limit': '200'}, gop_size=5)
    assert open_source(path).damage is None
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = bytes(third)
    path.write_bytes(content)
    assert 'incomplete or missing' in open_source(path).damage


@pytest.mark.parametrize('length', [1.0, 6.0], ids=['short', 'long'])
def test_pauses_of_the_picture_are_no_damage(tmp_path, length):
    """With sound or without; pictures come in another order than they are shown in, and have no decoding times."""
    times = [0.0, 0.04, 0.5, 0.52, 2.2, 2.3, 4.9]
    path = write_mp4(tmp_path / 'a.mkv', numbered(7), times, clicks(length, [0.5]), max_b_frames=2)
    source = open_source(path)
    assert (source.damage, source.notes) == (None, [])
    assert shown(source) == [0, 3, 3, 5, 5, *([6] if length == 6.0 else [])]


@pytest.mark.parametrize('start', [95438.0, 95440.5])
def test_a_broadcast_clock_may_pass_its_end(recording, tmp_path, start):
    """After 2^33 ticks of 1 / 90000 s it is 0; FFmpeg gives times below 0 before."""
    source = open_source(remux(recording, tmp_path / 'a.ts', dict(video=start, audio=start)))
    assert (source.damage, source.notes) == (None, [])
    assert shown(source) == [0, 10, 20]
    assert heard(source, 3) == pytest.approx([0.5, 1.5, 2.5], abs=0.01)


def test_a_matroska_file_may_begin_late(recording, tmp_path):
    """Its length counts from 0."""
    source = open_source(remux(recording, tmp_path / 'a.mkv', dict(video=5.0, audio=5.0)))
    assert source.damage is None and shown(source) == [0, 10, 20]


@pytest.mark.parametrize(('times', 'numbers'), [(20.0, [0, 20]), ([0.0, 1.5, 3.0], [0, 0, 1, 2])])
def test_a_little_at_the_end_is_no_second_but_a_slide_is(tmp_path, times, numbers):
    path = write_mp4(tmp_path / 'a.mkv', numbered(42 if times == 20.0 else 3), times)
    source = open_source(path)
    assert shown(source) == numbers
    assert len(numbers) - 1 < source.duration < len(numbers) + 0.2


def test_a_stream_without_time_stamps(tmp_path):
    """Its length is not known before the end."""
    source = open_source(write_silent(tmp_path / 'a.h264', 'h264', 'libx264', 60))
    assert len(shown(source)) == 3 and (source.duration is None or source.duration > 2)


def test_sound_that_begins_in_the_second_recording(recording, stream, tmp_path):
    """What the first says of its sound is nothing."""
    content = stream.read_bytes()
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    silent = [packet for packet in packets if int.from_bytes(packet[1:3], 'big') & 0x1FFF != 0x101]
    path = tmp_path / 'joined.ts'
    path.write_bytes(b''.join(silent) + content)
    source = open_source(path)
    assert source.duration == pytest.approx(6, abs=0.3)
    assert heard(source, 6)[:3] == [None] * 3 and heard(source, 6)[4:] == pytest.approx([4.5, 5.5], abs=0.15)
