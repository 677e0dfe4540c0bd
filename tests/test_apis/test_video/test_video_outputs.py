# SPDX-License-Identifier: Apache-2.0
"""Files appear whole or not at all; overlays show the right map on the right frame."""

import json

import av
import numpy as np
import pytest
import soundfile
import video_files
from PIL import Image
from video_files import numbered, write_mp4

from ovavss_mm.apis.video.base import frames_at
from ovavss_mm.apis.video.outputs import LabelPictures, Outputs, TimelineFile
from ovavss_mm.apis.video.overlay import MAX_SHOWN, Overlay, OverlayVideo
from ovavss_mm.apis.video.request import InferenceRequest, LabelledFrame
from ovavss_mm.apis.video.sound import SoundReader, SoundTrack, track_of_array
from ovavss_mm.apis.video.sources import PicturesSource
from ovavss_mm.apis.video.timeline import NOTHING_SOUNDS, ClassTimeline
from ovavss_mm.apis.video.video_source import VideoSource
from ovavss_mm.datasets.vocabulary import Vocabulary
from ovavss_mm.models.segmentors.windows import FrameClass, FrameObject
from ovavss_mm.visualization.drawing import blend, overlay, write_caption, write_names
from ovavss_mm.visualization.fonts import text_width
from ovavss_mm.visualization.name_colors import name_palette

NAMES = ('dog', 'cat')
PALETTE = name_palette(NAMES)


def asked(names=NAMES, opacity=0.6):
    """A request of these names."""
    return InferenceRequest(Vocabulary(names), opacity=opacity)


# ------------------------------------------------------------------ whole or not at all
def test_outputs_get_their_names_at_the_end(tmp_path):
    (tmp_path / 'maps').mkdir()
    (tmp_path / 'maps' / 'old.png').write_text('of a run before')
    with Outputs() as outputs:
        file = outputs.add(tmp_path / 'deep' / 'a.txt')
        assert file.name.startswith('.a.') and file.name.endswith('.part.txt')
        file.write_text('whole')
        folder = outputs.add(tmp_path / 'maps')
        folder.mkdir()
        (folder / 'new.png').write_text('new')
        assert not (tmp_path / 'deep' / 'a.txt').exists()
    assert (tmp_path / 'deep' / 'a.txt').read_text() == 'whole'
    assert [p.name for p in (tmp_path / 'maps').iterdir()] == ['new.png']
    assert not list(tmp_path.rglob('.*'))


def test_a_failing_writer_leaves_nothing(tmp_path):
    (tmp_path / 'a.txt').write_text('of a run before')

    class Full:
        def close(self):
            raise OSError(28, 'No space left on device')

    with pytest.raises(OSError, match='No space left'), Outputs() as outputs:
        outputs.add(tmp_path / 'a.txt').write_text('half')
        outputs.add(tmp_path / 'maps').mkdir()
        outputs.closing(Full())
    assert [p.name for p in tmp_path.iterdir()] == ['a.txt']
    assert (tmp_path / 'a.txt').read_text() == 'of a run before'
    with pytest.raises(ZeroDivisionError), Outputs() as outputs:
        outputs.add(tmp_path / 'b.txt').write_text('half')
        outputs.closing(Full())  # told of the first error, not of this one
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ['a.txt']


# ------------------------------------------------------------------ label maps and timeline
@pytest.mark.parametrize('num_names', [2, 254, 255, 300])
def test_label_pictures(tmp_path, num_names):
    """Indices survive; up to 254 names with a palette of 8 bits, then in 16 bits."""
    palette = name_palette([f'name {i}' for i in range(num_names)])
    labels = np.array([[0, 1], [2, num_names]], np.int16)
    writer = LabelPictures(tmp_path / 'maps', palette)
    writer.write(1 / 3, labels)
    (path,) = (tmp_path / 'maps').iterdir()
    assert path.name == '000000333.png'
    image = Image.open(path)
    assert (np.asarray(image) == labels).all()
    assert image.mode == ('P' if num_names < 255 else 'I;16')
    if num_names < 255:
        assert (np.asarray(image.convert('RGB'))[1, 0] == palette[2]).all()


def test_timeline_file(tmp_path):
    file = TimelineFile(tmp_path / 'a.json', dict(video='ü.mp4', vocabulary=['dog']))
    for time in (0.0, 1.0):
        file.write(dict(time=time, names={}))
    file.finish(dict(names={}, notes=['x']))
    file.close()
    content = json.loads((tmp_path / 'a.json').read_text(encoding='utf-8'))
    assert list(content) == ['video', 'vocabulary', 'frames', 'names', 'notes']
    assert content['video'] == 'ü.mp4' and len(content['frames']) == 2


def test_timeline_joins_seconds():
    timeline = ClassTimeline(NAMES, fps=2)
    heard = {0: [0, 1, 2, 5], 1: [5, 6]}
    for j in range(7):
        found = {i: FrameClass(0.1 * j, 0.8, 0.6) for i, at in heard.items() if j in at}
        record = timeline.add(j / 2, found)
        assert record['time'] == j / 2
        assert set(record['names']) == {NAMES[i] for i in found}
    names = timeline.summary(duration=3.2)
    assert list(names) == ['dog', 'cat']  # longest first
    assert names['dog']['intervals'] == [[0.0, 1.5], [2.5, 3.0]] and names['dog']['seconds'] == 2.0
    assert names['cat']['intervals'] == [[2.5, 3.2]]  # no longer than the video
    assert names['dog']['area'] == pytest.approx(0.2) and names['dog']['sound'] == 0.8


@pytest.mark.parametrize(('fps', 'duration'), [(1, 7.0), (1, 6.5), (2, 3.2), (3, None)])
def test_silence_is_what_no_name_has(fps, duration):
    """Its intervals are those that a class in the same frames would have; without frames there is none."""
    timeline, mirror = ClassTimeline(NAMES, fps), ClassTimeline(NAMES, fps)
    assert timeline.silent(0) == dict(intervals=[], seconds=0)
    for j in range(7):
        found = {0: FrameClass(0.1, 0.8, 0.6)} if j in (1, 2, 4) else {}
        assert (timeline.add(j / fps, found)['names'] == {}) == (j in (0, 3, 5, 6))
        mirror.add(j / fps, {} if found else {1: FrameClass(0.0, 0.0, 0.0)})
    silent, same, heard = timeline.silent(duration), mirror.summary(duration)['cat'], timeline.summary(duration)['dog']
    assert silent == {key: same[key] for key in ('intervals', 'seconds')}
    assert mirror.silent(duration)['intervals'] == heard['intervals']
    assert silent['seconds'] + heard['seconds'] == pytest.approx(duration or 7 / fps, abs=1e-4)


@pytest.mark.parametrize(('found', 'intervals'), [({}, [[0.0, 0.4]]), ({1: FrameClass(1.0, 1.0, 1.0)}, [])])
def test_silence_of_one_frame(found, intervals):
    timeline = ClassTimeline(NAMES)
    timeline.add(0.0, found)
    assert timeline.silent(0.4) == dict(intervals=intervals, seconds=0.4 * len(intervals))


def test_timeline_of_objects():
    """An object has the name of most of its frames, and the number that it has there."""
    timeline = ClassTimeline(NAMES)
    for time, label in enumerate((0, 0, None, 1, 0)):
        objects = [] if label is None else [FrameObject(0.1, 0.8, 0.6, 7, label, (1, 2, 3, 4), 2 - label)]
        record = timeline.add(time, {}, objects)
        assert [what['name'] for what in record['objects']] == [NAMES[x.label] for x in objects]
    assert record['objects'] == [dict(id=7, name='dog', number=2, box=[1, 2, 3, 4], area=0.1, sound=0.8, score=0.6)]
    (found,) = timeline.objects(4.5)
    assert (found['id'], found['name'], found['number']) == (7, 'dog', 2)
    assert found['intervals'] == [[0, 2], [3, 4.5]] and found['seconds'] == 3.5


# ------------------------------------------------------------------ overlays
def test_objects_of_a_name_are_numbered_from_the_second_on():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (60, 120, 3), dtype=np.uint8)
    object_map = np.zeros((60, 120), np.int16)
    object_map[5:30, 5:60], object_map[35:55, 20:100] = 1, 2
    labels = (object_map > 0).astype(np.uint8) * 2
    labels[40:44, 30:34] = 1  # pixels of another name get their colour, and no name
    objects = [FrameObject(0.1, 0.8, 0.6, i, 1, (0, 0, 1, 1), i) for i in (1, 2)]
    got = Overlay.of_frame(LabelledFrame(0.0, labels, {}, objects, object_map), asked()).over(frame)
    expected = blend(frame, labels, PALETTE, 0.6)
    expected = write_names(expected, object_map.astype(np.uint8), ('background', 'cat', 'cat 2'), PALETTE[[0, 2, 2]])
    assert np.abs(got.astype(int) - expected).max() <= 2


def test_overlay_is_the_drawing():
    """Drawn once and laid over a frame, as if drawn on that frame."""
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    labels = np.zeros((60, 80), np.int16)
    labels[5:30, 5:40], labels[35:55, 20:70] = 1, 2
    got = Overlay(labels, asked()).over(frame)
    expected = overlay(frame, labels.astype(np.uint8), ('background', *NAMES), PALETTE, 0.6)
    assert np.abs(got.astype(int) - expected).max() <= 2


def test_a_frame_without_a_label_says_so_in_a_corner():
    """And is untouched elsewhere."""
    frame = np.random.default_rng(0).integers(0, 256, (60, 200, 3), dtype=np.uint8)
    given = frame.copy()
    got = Overlay(np.zeros((60, 200), np.uint8), asked()).over(frame)
    assert (frame == given).all() and (got == write_caption(frame, NOTHING_SOUNDS)).all()
    changed = (got != frame).any(2)
    width = text_width(NOTHING_SOUNDS, 12) + 6
    assert changed[44:, :width].mean() > 0.95 and not changed[:44].any() and not changed[:, width:].any()
    assert (got[44:, :width] == 255).all(2).any()  # letters


def test_overlay_of_name_254():
    """Label 255 is a name where there are so many, not 'no label'."""
    names = [f'n{i}' for i in range(300)]
    labels = np.full((20, 30), 255, np.int16)
    got = Overlay(labels, asked(names, 1.0)).over(np.zeros((20, 30, 3), np.uint8))
    assert (got[2, 2] == name_palette(names)[255]).all()


def test_long_names_are_shortened():
    """They would cover the picture; dots say that there is more."""
    labels, black = np.ones((60, 900), np.uint8), np.zeros((60, 900, 3), np.uint8)
    names = ('x' * 500, 'x' * MAX_SHOWN + '...', 'x' * MAX_SHOWN)
    requests = [asked([name]) for name in names]
    for request in requests:
        request.palette = PALETTE[:2]
    long, cut, short = (Overlay(labels, request).over(black) for request in requests)
    assert (long == cut).all() and (long != short).any()


def write_overlay(path, source, maps, fps=1):
    """Write maps, and give the frames and the sound of the result."""
    writer = OverlayVideo(path, source, asked(opacity=1.0))
    for j, labels in enumerate(maps):
        writer.write(LabelledFrame(j / fps, labels, {}), (j + 1) / fps)
    writer.write(LabelledFrame(j / fps, labels, {}), None)
    writer.close()
    return VideoSource(str(path))


@pytest.mark.parametrize('size', [(32, 48), (33, 47)], ids=['even', 'odd'])
def test_frames_get_the_map_of_the_latest_labelled_frame(tmp_path, size):
    frames = np.zeros((30, *size, 3), np.uint8)
    maps = [np.full(size, value, np.uint8) for value in (0, 1, 2)]
    out = write_overlay(tmp_path / 'o.mp4', PicturesSource(frames, 'f', rate=10.0), maps)
    assert out.size == tuple(s + s % 2 for s in size)
    pictures = list(out.pictures())
    assert [round(p.time, 3) for p in pictures] == [i / 10 for i in range(30)]
    assert pictures[-1].end == pytest.approx(3.0, abs=0.02)
    for i, picture in enumerate(pictures):
        corner = picture.rgb()[2:5, 2:5].mean((0, 1))
        assert np.abs(corner - PALETTE[i // 10]).max() < 30, i


def test_a_held_picture_changes_its_labels(tmp_path):
    """Two slides of three seconds: the overlay follows the labels, not the slides."""
    slides = PicturesSource(np.zeros((2, 32, 48, 3), np.uint8), 'f', rate=1 / 3)
    maps = [np.full((32, 48), value, np.uint8) for value in (0, 1, 2, 2, 0, 1)]
    out = write_overlay(tmp_path / 'o.mp4', slides, maps)
    assert out.duration == pytest.approx(6, abs=0.05)
    shown = [rgb[2:5, 2:5].mean((0, 1)) for _, rgb in frames_at(out, 1)]
    for color, labels in zip(shown, maps, strict=True):
        assert np.abs(color - PALETTE[labels[0, 0]]).max() < 30


def test_the_caption_is_in_the_silent_seconds_of_the_video(tmp_path):
    size, labels = (96, 192), (0, 1, 0, 2)
    maps = [np.zeros(size, np.uint8) for _ in labels]
    for label_map, label in zip(maps, labels, strict=True):
        label_map[:40] = label
    source = PicturesSource(np.full((16, *size, 3), 128, np.uint8), 'f', rate=4.0)
    out = write_overlay(tmp_path / 'o.mp4', source, maps)
    for i, picture in enumerate(out.pictures()):
        change = np.abs(picture.rgb().astype(int) - 128)
        has_label = labels[i // 4] > 0
        assert (change[:30].max() > 60) == has_label and (change[82:, :100].max() > 60) != has_label, i


def test_at_most_thirty_frames_a_second(tmp_path):
    frames = np.zeros((60, 16, 16, 3), np.uint8)
    maps = [np.zeros((16, 16), np.uint8)]
    out = write_overlay(tmp_path / 'o.mp4', PicturesSource(frames, 'f', rate=60.0), maps)
    assert len(list(out.pictures())) == 30


@pytest.mark.parametrize('start', [0.0, 0.4], ids=['zero', 'shifted'])
def test_sound_is_copied_without_loss(tmp_path, start):
    """AAC packets are those of the source, and are heard when they were."""
    sound = video_files.clicks(3, [0.5, 2.25], 44100)
    sound = np.stack([sound, sound])
    path = write_mp4(tmp_path / 'a.mp4', numbered(30), 10.0, sound, rate=44100, start=start)
    source = VideoSource(str(path))
    out = write_overlay(tmp_path / 'o.mp4', source, [np.zeros((32, 48), np.uint8)])
    packets, layouts = zip(*(stored_sound(s.path) for s in (source, out)), strict=True)
    assert len(packets[1]) > 100 and set(packets[1]) <= set(packets[0])
    assert layouts == ('stereo', 'stereo')
    samples = np.abs(SoundReader(out.sound, 16000).span(0, 45000))
    assert samples[:16000].argmax() / 16000 == pytest.approx(0.5, abs=0.006)
    assert 1 + samples[16000:].argmax() / 16000 == pytest.approx(2.25, abs=0.006)


def stored_sound(path):
    """Packets of sound as bytes, and the layout of its channels."""
    with av.open(path) as file:
        stream = file.streams.audio[0]
        return [bytes(packet) for packet in file.demux(stream) if packet.size], stream.layout.name


@pytest.mark.parametrize('channels', [1, 2, 3, 8, 16])
def test_channels_that_cannot_be_copied_become_aac(tmp_path, channels):
    wave = np.repeat(video_files.clicks(3, [0.5, 2.25])[:, None], channels, 1)
    source = PicturesSource(np.zeros((3, 32, 48, 3), np.uint8), 'f', track_of_array(wave, 16000))
    out = write_overlay(tmp_path / 'o.mp4', source, [np.zeros((32, 48), np.uint8)])
    samples = np.abs(SoundReader(out.sound, 16000).span(0, 3 * 16000))
    assert samples[:16000].argmax() / 16000 == pytest.approx(0.5, abs=0.006)


def test_mp3_of_few_hertz_becomes_aac(tmp_path):
    """An mp4 file cannot have it."""
    wave = video_files.clicks(3, [0.5, 2.25], 8000)
    soundfile.write(tmp_path / 'a.mp3', wave, 8000, format='MP3')
    track = SoundTrack(str(tmp_path / 'a.mp3'), 'a')
    source = PicturesSource(np.zeros((3, 32, 48, 3), np.uint8), 'f', track)
    out = write_overlay(tmp_path / 'o.mp4', source, [np.zeros((32, 48), np.uint8)])
    samples = np.abs(SoundReader(out.sound, 16000).span(0, 16000))
    assert samples.argmax() / 16000 == pytest.approx(0.5, abs=0.06)  # encoders of mp3 begin late


def test_sound_that_changes_its_channels_and_rate(tmp_path):
    """Two recordings in one file, of a kind that cannot be copied."""
    content = b''
    for rate, layout in ((48000, 'stereo'), (44100, 'mono')):
        path = tmp_path / 'part.mp2'
        with av.open(str(path), 'w') as file:
            stream = file.add_stream('mp2', rate=rate, layout=layout)
            samples = np.repeat(video_files.clicks(2, [0.5], rate), stream.layout.nb_channels)[None]  # (1, n * c)
            frame = av.AudioFrame.from_ndarray(samples, 'flt', layout)
            frame.sample_rate = rate
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        content += path.read_bytes()
    (tmp_path / 'joined.mp2').write_bytes(content)
    source = PicturesSource(np.zeros((4, 32, 48, 3), np.uint8), 'f', SoundTrack(str(tmp_path / 'joined.mp2'), 'a'))
    out = write_overlay(tmp_path / 'o.mp4', source, [np.zeros((32, 48), np.uint8)])
    samples = np.abs(SoundReader(out.sound, 16000).span(0, 64000))
    assert samples[:32000].argmax() / 16000 == pytest.approx(0.5, abs=0.06)
    assert 2 + samples[32000:].argmax() / 16000 == pytest.approx(2.5, abs=0.2)


def test_lost_packets_do_not_end_the_overlay(tmp_path):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * 16000)
    path = write_mp4(tmp_path / 'a.ts', numbered(40), 10.0, sound)
    content = path.read_bytes()
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    path.write_bytes(b''.join(packet for i, packet in enumerate(packets) if i % 20 != 19))
    source = VideoSource(str(path))
    out = write_overlay(tmp_path / 'o.mp4', source, [np.zeros(source.size, np.uint8)])
    assert source.damage and out.duration == pytest.approx(4, abs=0.3)


def test_sound_that_cannot_be_copied_becomes_aac(tmp_path):
    """A click of a PCM sound stays where it was; sound longer than the picture is cut."""
    track = track_of_array(video_files.clicks(9, [0.5, 2.25]), 16000)
    source = PicturesSource(np.zeros((3, 32, 48, 3), np.uint8), 'f', track)
    out = write_overlay(tmp_path / 'o.mp4', source, [np.zeros((32, 48), np.uint8)])
    with av.open(str(tmp_path / 'o.mp4')) as file:
        stream = file.streams.audio[0]
        assert stream.codec_context.name == 'aac'
        assert float(stream.duration * stream.time_base) == pytest.approx(3.0, abs=0.1)
    samples = np.abs(SoundReader(out.sound, 16000).span(0, 3 * 16000))
    assert samples[:16000].argmax() / 16000 == pytest.approx(0.5, abs=0.006)
    assert 1 + samples[16000:].argmax() / 16000 == pytest.approx(2.25, abs=0.006)
