# SPDX-License-Identifier: Apache-2.0
"""Frames of any kind of input, at the time stamps that are asked for."""

import struct
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import video_files
from PIL import Image
from video_files import number_of, numbered, write_mp4

from ovavss_mm.apis.video.base import Picture, Source, frames_at
from ovavss_mm.apis.video.listing import list_inputs
from ovavss_mm.apis.video.sources import PicturesSource, open_source
from ovavss_mm.apis.video.video_source import VideoSource

SIZE = (32, 48)


def shown(source: Source, fps: int) -> dict[float, int]:
    """Number of the frame that stands at each time stamp."""
    return {round(time, 4): number_of(rgb) for time, rgb in frames_at(source, fps)}


def test_frames_of_a_fixed_rate(tmp_path):
    frames = numbered(25)
    source = open_source(write_mp4(tmp_path / 'a.mp4', frames, 10.0))
    assert source.size == SIZE and source.rate == pytest.approx(10, rel=0.05)
    assert source.duration == pytest.approx(2.5, abs=0.1) and source.name == 'a'
    assert shown(source, 1) == {0.0: 0, 1.0: 10, 2.0: 20}
    assert shown(source, 4) == pytest.approx(
        {0.0: 0, 0.25: 3, 0.5: 5, 0.75: 8, 1.0: 10, 1.25: 13, 1.5: 15, 1.75: 18, 2.0: 20, 2.25: 23}, abs=1
    )
    assert source.damage is None


def test_ntsc_rate_does_not_fall_behind(tmp_path):
    """29.97 frames a second: frame 30 is shown at 1.001 s and stands for second 1."""
    frames = numbered(100)
    times = [i * 1001 / 30000 for i in range(100)]
    source = VideoSource(str(write_mp4(tmp_path / 'n.mp4', frames, times)))
    assert shown(source, 1) == {0.0: 0, 1.0: 30, 2.0: 60, 3.0: 90}


def test_variable_frame_rate(tmp_path):
    """A frame stands until the next one comes, however late that is."""
    frames = numbered(7)
    times = [0.0, 0.1, 0.15, 1.7, 3.9, 4.0, 6.2]
    source = VideoSource(str(write_mp4(tmp_path / 'v.mp4', frames, times)))
    assert shown(source, 1) == {0.0: 0, 1.0: 2, 2.0: 3, 3.0: 3, 4.0: 5, 5.0: 5, 6.0: 5}


@pytest.mark.parametrize('rotation', [0, 90, 180, -90])
def test_rotation_is_that_of_the_metadata(tmp_path, rotation):
    """A white left edge goes where the display matrix turns it."""
    frame = np.zeros((*SIZE, 3), np.uint8)
    frame[:, :8] = 255
    path = write_mp4(tmp_path / 'r.mp4', [frame] * 3, 10.0, rotation=rotation)
    source = VideoSource(str(path))
    expected = np.rot90(frame, rotation // 90)
    assert source.size == expected.shape[:2]
    (_, rgb), *_ = frames_at(source, 1)
    assert np.abs(rgb.astype(int) - expected).mean() < 8


def test_truncated_file_gives_what_it_has(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, *SIZE, 3), dtype=np.uint8)
    whole = write_mp4(tmp_path / 'w.mp4', list(noise), 10.0, options={'movflags': 'faststart'})
    cut = tmp_path / 'cut.mp4'
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.55)])
    source = VideoSource(str(cut))
    times = [time for time, _ in frames_at(source, 1)]
    assert 2 <= len(times) <= 4
    assert 'but 5.94 s were announced' in source.damage
    cut.write_bytes(write_mp4(tmp_path / 'end.mp4', list(noise), 10.0).read_bytes()[:3000])
    with pytest.raises(ValueError, match='cut off may have lost its table of contents'):
        VideoSource(str(cut))


def test_a_trimmed_file_is_not_damaged(tmp_path):
    """An edit list that shows two seconds of six, as phones write it."""
    path = write_mp4(tmp_path / 't.mp4', numbered(60), 10.0)
    content = bytearray(path.read_bytes())
    at = content.index(b'elst') + 4
    _, count, length = struct.unpack('>III', content[at : at + 12])
    assert count == 1 and length == 5940  # ms
    content[at + 8 : at + 12] = struct.pack('>I', 2000)
    path.write_bytes(content)
    source = VideoSource(str(path))
    assert shown(source, 1) == {0.0: 0, 1.0: 10}
    assert source.damage is None


def test_no_video(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'there is no video .*gone\.mp4'):
        open_source(str(tmp_path / 'gone.mp4'))
    (tmp_path / 'text.mp4').write_text('no video at all')
    with pytest.raises(ValueError, match='cannot be read as a video'):
        open_source(tmp_path / 'text.mp4')
    soundfile.write(tmp_path / 'tone.wav', np.zeros(1600), 16000)
    with pytest.raises(ValueError, match='has no picture stream'):
        open_source(tmp_path / 'tone.wav')


def test_only_a_few_frames_are_alive(tmp_path):
    """A source hands frames on and forgets them, however many there are."""
    alive, most = 0, 0

    class Counted(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= 1

    class Endless(Source):
        size, rate = (2, 2), 10.0

        def pictures(self):
            def make():
                nonlocal alive, most
                alive, most = alive + 1, max(most, alive + 1)
                return np.zeros((2, 2, 3), np.uint8).view(Counted)

            for i in range(5000):
                yield Picture(i / 10, (i + 1) / 10, make)

    times = [time for time, _ in frames_at(Endless('endless'), 1)]
    assert len(times) == 500 and most <= 3
    assert all(b - a == pytest.approx(1) for a, b in pairwise(times))


def picture_folder(folder, count=11, sound=True):
    """Pictures 0.png, 1.png, ..., 10.png and a wav."""
    folder.mkdir()
    for i, frame in enumerate(numbered(count)):
        Image.fromarray(frame).save(folder / f'{i}.png')
    if sound:
        soundfile.write(folder / 'audio.wav', np.zeros(count * 16000), 16000)
    return folder


def test_folder_of_pictures(tmp_path):
    """In the order of their numbers, a second each, with the sound file in the folder."""
    source = open_source(picture_folder(tmp_path / 'clip'))
    assert (source.name, source.duration, source.rate) == ('clip', 11.0, 1.0)
    assert shown(source, 1) == {float(i): i for i in range(11)}
    assert source.sound.file.endswith('audio.wav')
    soundfile.write(tmp_path / 'clip' / 'second.wav', np.zeros(9), 16000)
    with pytest.raises(ValueError, match='has 2 sound files'):
        open_source(tmp_path / 'clip')
    two = dict(frames=tmp_path / 'clip', sound=tmp_path / 'clip/second.wav', frame_rate=2.0)
    assert open_source(two).duration == 5.5


def test_arrays(tmp_path):
    frames = np.stack(numbered(4))
    source = open_source(dict(frames=frames, sound=np.zeros(99, np.float32), sample_rate=16000, frame_rate=2))
    assert source.duration == 2.0 and source.sound is not None
    assert shown(source, 1) == {0.0: 0, 1.0: 2}
    assert open_source(frames).sound is None
    assert open_source(dict(frames=list(frames))).duration == 4.0


@pytest.mark.parametrize(
    ('item', 'message'),
    [
        (3, 'must be a path'),
        ({}, 'either video or frames'),
        ({'video': 'a', 'frames': 'b'}, 'either video or frames'),
        ({'video': 'a', 'speed': 2}, 'may have of'),
        ({'frames': np.zeros((2, 4, 4, 3))}, 'uint8 RGB'),
        ({'frames': np.zeros((0, 4, 4, 3), np.uint8)}, 'must have frames'),
        ({'frames': np.zeros((1, 4, 4, 3), np.uint8), 'sound': np.zeros(9)}, 'sample_rate'),
        ({'frames': np.zeros((1, 4, 4, 3), np.uint8), 'frame_rate': 0}, 'frame_rate'),
    ],
    ids=['type', 'empty', 'both', 'unknown', 'dtype', 'none', 'no-rate', 'still'],
)
def test_bad_inputs(item, message):
    with pytest.raises(ValueError, match=message):
        open_source(item)


def test_pictures_of_two_sizes(tmp_path):
    folder = picture_folder(tmp_path / 'clip', 2)
    Image.new('RGB', (5, 5)).save(folder / '2.png')
    source = open_source(folder)
    assert isinstance(source, PicturesSource)
    with pytest.raises(ValueError, match=r'2\.png has \(5, 5\) pixels'):
        list(frames_at(source, 1))


def test_lists_of_inputs(tmp_path):
    for name in ('b10.mp4', 'b9.mp4', 'note.txt'):
        (tmp_path / name).write_text('')
    both = [str(tmp_path / 'b9.mp4'), str(tmp_path / 'b10.mp4')]
    assert list_inputs(str(tmp_path)) == both
    assert list_inputs(str(tmp_path / '*.mp4')) == both
    assert list_inputs([both[1], tmp_path]) == [both[1], *both]
    clip = str(picture_folder(tmp_path / 'clip'))
    assert list_inputs(clip) == [clip]
    with pytest.raises(ValueError, match='nothing matches'):
        list_inputs(str(tmp_path / '*.mkv'))
    with pytest.raises(ValueError, match='no inputs'):
        list_inputs([])


def test_folders_of_cameras(tmp_path):
    """Photos beside videos are left out; endings do not matter, and folders may lie in folders."""
    video = write_mp4(tmp_path / 'a.ts', numbered(10))
    card = tmp_path / 'card'
    stream = card / 'PRIVATE/AVCHD/STREAM'
    stream.mkdir(parents=True)
    for name in ('00010.MTS', '00002.MTS', 'take.unknown'):
        (stream / name).write_bytes(video.read_bytes())
    (stream / 'INDEX.BDM').write_bytes(b'no video')
    expected = [str(stream / name) for name in ('00002.MTS', '00010.MTS', 'take.unknown')]
    assert list_inputs(str(card)) == list_inputs(str(stream)) == expected
    Image.new('RGB', (9, 9)).save(stream / 'IMG_1.JPG')
    with pytest.warns(UserWarning, match='its 3 videos are taken, the 1 picture beside them are left out'):
        assert list_inputs(str(stream)) == expected
    assert shown(open_source(expected[0]), 1) == {0.0: 0}


def test_other_kinds_are_named_with_what_to_do(tmp_path):
    Image.new('RGB', (9, 9)).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match='is one picture: give the folder of its pictures'):
        open_source(tmp_path / 'a.png')
    (tmp_path / 'a.pdf').write_bytes(b'%PDF-1.7' * 99)
    with pytest.raises(ValueError, match='others can be converted: ffmpeg -i FILE'):
        open_source(tmp_path / 'a.pdf')


def test_an_animated_gif_is_a_silent_video(tmp_path):
    frames = [Image.fromarray(frame) for frame in numbered(10)]
    frames[0].save(tmp_path / 'a.gif', save_all=True, append_images=frames[1:], duration=500)
    source = open_source(tmp_path / 'a.gif')
    assert shown(source, 1) == {float(i): 2 * i for i in range(5)}
    assert source.sound is None and source.damage is None


def test_a_separate_sound_file(tmp_path):
    video = write_mp4(tmp_path / 'a.mp4', numbered(10), sound=video_files.clicks(1, [0.5]))
    soundfile.write(tmp_path / 'b.wav', np.zeros(16000), 16000)
    source = open_source(dict(video=video, sound=tmp_path / 'b.wav'))
    assert source.sound.file.endswith('b.wav') and source.sound.start is None
    assert open_source(video).sound.file == str(video)
    with pytest.raises(FileNotFoundError, match='no sound file'):
        open_source(dict(video=video, sound=tmp_path / 'gone.wav'))
