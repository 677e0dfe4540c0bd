# SPDX-License-Identifier: Apache-2.0
"""Stretches of videos, cut out into files of their own."""

import csv
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovavss_mm.apis.video.clips import key_times, nearest, padded, read_clips, write_clips
from ovavss_mm.apis.video.sound import SoundReader
from ovavss_mm.apis.video.sources import open_source

RATE = 16000


def numbered(i: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A picture of the eight bits of a number, as stripes."""
    bits = np.repeat([30 + 190 * (i >> b & 1) for b in range(8)], width // 8)
    return np.pad(np.tile(bits[:, None], (height, 1, 3)), ((0, 0), (0, width % 8), (0, 0))).astype(np.uint8)


def write_video(path: Path, seconds: int, fps: int = 10, keys: int = 20, sound: bool = True) -> Path:
    """Frame i has the stripes of i, second s the loudness (s + 1) / 20; a key frame each ``keys`` frames."""
    with av.open(str(path), 'w') as file:
        video = file.add_stream(
            'libx264', rate=fps, options={'crf': '10', 'g': str(keys), 'keyint_min': str(keys), 'sc_threshold': '0'}
        )
        video.width, video.height, video.pix_fmt = 64, 48, 'yuv420p'
        audio = file.add_stream('aac', rate=RATE, layout='mono') if sound else None
        for i in range(seconds * fps):
            frame = av.VideoFrame.from_ndarray(numbered(i), 'rgb24')
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if sound:
            times = np.arange(seconds * RATE) / RATE
            samples = (np.sin(times * 2 * np.pi * 440) * (times.astype(int) + 1) / 20).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples[None], 'fltp', 'mono')
            frame.sample_rate, frame.pts = RATE, 0
            file.mux(audio.encode(frame))
            file.mux(audio.encode(None))
    return path


def prediction(duration: float, **names: list) -> dict:
    return dict(duration=duration, names={name: dict(intervals=intervals) for name, intervals in names.items()})


def rows(folder: Path) -> list[dict]:
    with open(folder / 'clips.csv', newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def numbers_of(path: Path) -> list[int]:
    """The numbers of the frames of a file."""
    found = []
    for picture in open_source(str(path)).pictures():
        rgb = picture.rgb()
        step = rgb.shape[1] // 8
        bits = rgb[:, : 8 * step].reshape(len(rgb), 8, step, 3).mean((0, 2, 3)) > 128
        found.append(int(bits @ 2 ** np.arange(8)))
    return found


def loudness(path: Path) -> list[float]:
    """Of each second, in twentieths."""
    source = open_source(str(path))
    reader = SoundReader(source.sound, RATE)
    seconds = round(source.duration)
    return [float(np.abs(reader.span(s * RATE + 2000, RATE - 4000)).max() * 20) for s in range(seconds)]


@given(
    bounds=st.lists(st.integers(0, 40), min_size=2, max_size=8, unique=True).map(sorted),
    pad=st.sampled_from([0.0, 0.5, 3.0]),
)
def test_padded_stretches_cover_all_and_keep_apart(bounds, pad):
    intervals = [list(map(float, pair)) for pair in zip(bounds[::2], bounds[1::2], strict=False)]
    found = padded(intervals, pad, 40.0)
    assert all(0 <= start < end <= 40 for start, end in found)
    assert all(before[1] < after[0] for before, after in zip(found, found[1:], strict=False))
    for start, end in intervals:
        assert any(a <= max(0, start - pad) and min(40, end + pad) <= b for a, b in found)


def test_a_key_frame_must_be_near():
    assert nearest([0.0, 2.0, 4.0], 2.4, 0.5) == 2.0
    assert nearest([0.0, 2.0], 3.0, 0.5) is None and nearest([], 0.0, 9.0) is None


def test_stretches_have_their_own_pictures_and_sound(tmp_path):
    """At key frames (each 2 s) as they are, elsewhere encoded anew; one pass for several of a name."""
    source = open_source(str(write_video(tmp_path / 'a.mp4', 8)))
    assert key_times(source) == pytest.approx([0, 2, 4, 6])
    found = prediction(8.0, dog=[[1.0, 2.0], [3.0, 4.0], [6.0, 8.0]], cat=[[4.0, 6.0]])
    write_clips(tmp_path / 'clips', source, found, ['dog', 'cat', 'cow'], 0.0)
    listed = rows(tmp_path / 'clips')
    assert [(row['name'], row['start'], row['end'], row['seconds'], row['how']) for row in listed] == [
        ('dog', '1.0', '2.0', '1.0', 'encoded'),
        ('dog', '3.0', '4.0', '1.0', 'encoded'),
        ('dog', '6.0', '8.0', '2.0', 'copied'),
        ('cat', '4.0', '6.0', '2.0', 'copied'),
        ('cow', '', '', '0', ''),
    ]
    assert read_clips(tmp_path / 'clips') == {('dog', 0.0), ('cat', 0.0), ('cow', 0.0)}
    assert listed.pop()['file'] == ''
    assert listed[0]['file'] == 'dog_00001.000-00002.000.mp4'
    assert {path.name for path in (tmp_path / 'clips').iterdir()} == {'clips.csv', *(row['file'] for row in listed)}
    for row in listed:
        path, start, end = tmp_path / 'clips' / row['file'], float(row['start']), float(row['end'])
        numbers = numbers_of(path)
        slack = 3 if row['how'] == 'copied' else 0  # packets end where their decoding order says
        assert numbers[: round((end - start) * 10)] == list(range(round(start * 10), round(end * 10)))
        assert len(numbers) <= round((end - start) * 10) + slack
        heard = loudness(path)[: round(end - start)]
        assert heard == pytest.approx(range(round(start) + 1, round(end) + 1), abs=0.4), row


def test_with_a_pad_a_cut_may_begin_at_a_key_frame_beside_it(tmp_path):
    source = open_source(str(write_video(tmp_path / 'a.mp4', 6)))
    write_clips(tmp_path / 'clips', source, prediction(6.0, dog=[[3.0, 4.0]]), ['dog'], 0.5)
    (row,) = rows(tmp_path / 'clips')
    assert (row['start'], row['end'], row['how']) == ('2.0', '4.5', 'copied')
    assert numbers_of(tmp_path / 'clips' / row['file'])[:25] == list(range(20, 45))


def test_other_sources_are_encoded(tmp_path):
    """Arrays, and videos whose sound has a file of its own, or that have none."""
    frames = np.stack([numbered(i, 33, 48) for i in range(8)])
    array = open_source(dict(frames=frames, frame_rate=2))
    silent = open_source(str(write_video(tmp_path / 'silent.mp4', 4, sound=False)))
    write_video(tmp_path / 'other.mp4', 4)
    apart = open_source(dict(video=str(tmp_path / 'silent.mp4'), sound=str(tmp_path / 'other.mp4')))
    for number, (source, how) in enumerate([(array, 'encoded'), (silent, 'copied'), (apart, 'encoded')]):
        write_clips(tmp_path / str(number), source, prediction(4.0, dog=[[2.0, 4.0]]), ['dog'], 0.0)
        (row,) = rows(tmp_path / str(number))
        assert row['how'] == how
        rate = 2 if number == 0 else 10
        assert numbers_of(tmp_path / str(number) / row['file']) == list(range(2 * rate, 4 * rate))
    assert loudness(tmp_path / '2' / row['file']) == pytest.approx([3, 4], abs=0.4)


def test_nothing_is_left_of_what_failed(tmp_path, monkeypatch):
    source = open_source(str(write_video(tmp_path / 'a.mp4', 2)))
    monkeypatch.setattr('ovavss_mm.apis.video.overlay.SourceVideo.write_changed', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_clips(tmp_path / 'clips', source, prediction(2.0, dog=[[1.0, 2.0]]), ['dog'], 0.0)
    assert [path.name for path in tmp_path.iterdir()] == ['a.mp4']
