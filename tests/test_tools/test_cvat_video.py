# SPDX-License-Identifier: Apache-2.0
"""What people labelled in CVAT becomes the label maps that the data set reads, beside the frames that they saw."""

import sys
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from label_files import Made, cvat_mask, load_tool, write_cvat
from video_files import clicks, number_of, numbered, write_mp4

from ovavss_mm.apis.video.request import MAX_FPS
from ovavss_mm.apis.video.sound import SoundReader
from ovavss_mm.apis.video.sources import open_source
from ovavss_mm.datasets import LoadClipAudio
from ovavss_mm.datasets.transforms.audio import MAX_SECONDS

SIZE = (32, 48)
FPS = 5.0


@pytest.fixture(scope='module')
def script():
    return load_tool('cvat_video')


@pytest.fixture(scope='module')
def video(tmp_path_factory) -> Path:
    """Four seconds of frames that have their numbers, and a click in each second."""
    folder = tmp_path_factory.mktemp('videos')
    return write_mp4(folder / 'clip.mp4', numbered(20), FPS, clicks(4, [0.5, 1.1, 2.5, 3.9]))


@pytest.fixture
def call(script, video, tmp_path):
    """Function that converts files as split train; gives what was made of them."""

    def run(*files: Path, videos: Path = video.parent, more: tuple = ()) -> Made:
        script.main(['--train', *map(str, files), '--videos', str(videos), '--out', str(tmp_path / 'own'), *more])
        return Made(tmp_path / 'own')

    return run


def rectangle(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


SMALL, LARGE = rectangle(5, 6, 10, 12), rectangle(2, 3, 18, 25)


def box(frame: int, *sides: float, more: str = '') -> str:
    left, top, right, bottom = sides
    return f'<box frame="{frame}" outside="0" xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}" {more}/>'


def polygon(frame: int, points: str, outside: int = 0) -> str:
    return f'<polygon frame="{frame}" outside="{outside}" keyframe="1" points="{points}"/>'


# --- what is shown when
def test_masks_hold_until_the_next_keyframe(call, tmp_path, capsys):
    """Names of any script, a track that starts late, one that ends, one without shapes, and a name nobody used."""
    rng = np.random.default_rng(0)
    noise = rng.random((3, *SIZE)) < 0.3
    tracks = [
        ('fire_truck', [cvat_mask(0, noise[0]), cvat_mask(9, noise[1]), cvat_mask(12, noise[1], outside=1)]),
        ('犬', [cvat_mask(15, noise[2])]),
        ('собака', []),
    ]
    made = call(write_cvat(tmp_path / 'a.xml', tracks, size=SIZE, names=('fire_truck', 'kettle')))
    assert capsys.readouterr().out == f'{tmp_path}/own: 1 clips, 4 names\n1 of 1 clips have sound\n'
    assert made.rows == [['clip', 'fire-truck_犬', 'train', 'v2']]
    assert sorted(made.label2idx) == ['background', 'fire-truck', 'kettle', 'собака', '犬']
    clip = made.clip('clip')
    truck, dog = (made.label2idx[name] for name in ('fire-truck', '犬'))
    expected = np.stack([noise[0] * truck, noise[0] * truck, noise[1] * truck, noise[2] * dog])
    assert np.array_equal(clip['gt_seg_maps'], expected)
    # the frames that were labelled
    assert [number_of(frame) for frame in clip['imgs']] == [0, 5, 10, 15]


def test_sound_is_what_the_model_hears_of_the_video(call, video, tmp_path):
    made = call(write_cvat(tmp_path / 'a.xml', [('dog', [cvat_mask(0, SMALL)])]))
    wave, rate = soundfile.read(made.root / 'v2/clip/audio.wav', dtype='float32')
    assert rate == 16000
    assert np.array_equal(wave, SoundReader(open_source(str(video)).sound, rate).span(0, 4 * rate))
    assert [round(second.argmax() / rate, 1) for second in np.abs(wave).reshape(4, rate)] == [0.5, 0.1, 0.5, 0.9]
    assert LoadClipAudio()(made.clip('clip'))['audio'].shape == (4, 1, 96, 64)


def test_order_of_tracks_and_shapes_does_not_matter(script, video, tmp_path):
    tracks = [
        ('dog', [cvat_mask(0, SMALL), cvat_mask(7, LARGE)]),
        ('cat', [cvat_mask(3, LARGE), cvat_mask(10, SMALL, outside=1)]),
    ]
    maps = []
    for i, order in enumerate((tracks, [(name, shapes[::-1]) for name, shapes in tracks[::-1]])):
        path = write_cvat(tmp_path / f'{i}.xml', order)
        script.main(['--train', str(path), '--videos', str(video.parent), '--out', str(tmp_path / str(i))])
        maps.append(Made(tmp_path / str(i)).clip('clip')['gt_seg_maps'])
    assert np.array_equal(*maps) and maps[0].any((1, 2)).all()


def test_masks_round_trip(script):
    rng = np.random.default_rng(1)
    for height, width in ((1, 1), (1, 7), (33, 47), (20, 30)):
        for density in (0, 0.02, 0.5, 1):
            mask = rng.random((height, width)) < density
            path = script.ElementTree.fromstring(cvat_mask(0, mask))
            assert np.array_equal(script.decode_mask(path.attrib, mask.shape), mask)


def test_odd_sizes(call, tmp_path):
    size = (33, 47)
    write_mp4(tmp_path / 'odd.mp4', numbered(6, size), FPS, pix_fmt='yuv444p')
    mask = np.random.default_rng(2).random(size) < 0.5
    path = write_cvat(tmp_path / 'a.xml', [('dog', [cvat_mask(0, mask)])], 'odd.mp4', size)
    clip = call(path, videos=tmp_path).clip('odd')
    assert np.array_equal(clip['gt_seg_maps'], np.stack([mask]))
    assert not (tmp_path / 'own/v2/odd/audio.wav').exists()


def test_small_masks_and_high_layers_are_in_front(call, tmp_path):
    tracks = [
        ('cat', [cvat_mask(0, SMALL), cvat_mask(5, SMALL, more='z_order="1"'), cvat_mask(10, SMALL)]),
        ('dog', [cvat_mask(0, LARGE), cvat_mask(10, LARGE, more='z_order="1"')]),
    ]
    maps = call(write_cvat(tmp_path / 'a.xml', tracks)).clip('clip')['gt_seg_maps']
    expected = np.where(SMALL, 1, np.where(LARGE, 2, 0))
    assert np.array_equal(maps[0], expected) and np.array_equal(maps[1], expected)
    assert np.array_equal(maps[2], 2 * LARGE)


def test_polygons_and_boxes_move_linearly(call, tmp_path, capsys):
    """From frame 0 to 10 to the right; what has another form or number of corners stays where it is."""
    tracks = [
        ('cat', [polygon(0, '2,2;6,2;6,6;2,6'), polygon(10, '12,2;16,2;16,6;12,6'), polygon(15, '40,20;47,20;47,30')]),
        ('dog', [box(0, 20, 20, 24, 28), box(10, 40, 20, 44, 28), cvat_mask(15, SMALL)]),
    ]
    made = call(write_cvat(tmp_path / 'a.xml', tracks))
    assert 'a.xml: boxes are taken as filled rectangles (number of them: 2)' in capsys.readouterr().out
    maps = made.clip('clip')['gt_seg_maps']
    for t, shift in enumerate((0, 5, 10)):
        expected = rectangle(2, 2 + shift, 6, 6 + shift) + 2 * rectangle(20, 20 + 2 * shift, 28, 24 + 2 * shift)
        assert np.array_equal(maps[t], expected)
    assert np.array_equal(maps[3] == 2, SMALL)


def test_boxes_turn(call, tmp_path):
    """By 90 degrees a wide box is a tall one; clockwise, the right side of a flat one goes down."""
    tracks = [('dog', [box(0, 10, 10, 30, 14, more='rotation="90"'), box(5, 10, 10, 30, 14, more='rotation="45"')])]
    maps = call(write_cvat(tmp_path / 'a.xml', tracks)).clip('clip')['gt_seg_maps']
    assert np.array_equal(maps[0], rectangle(2, 18, 22, 22))
    assert maps[1][17, 25] and not maps[1][7, 25]


def test_shapes_between_keyframes_are_taken_as_they_are(call, tmp_path):
    """CVAT writes each frame of a track, those between keyframes too."""
    shapes = [polygon(0, '2,2;6,2;6,6;2,6'), polygon(5, '2,8;6,8;6,12;2,12'), polygon(10, '12,2;16,2;16,6;12,6')]
    shapes[1] = shapes[1].replace('keyframe="1"', 'keyframe="0"')
    maps = call(write_cvat(tmp_path / 'a.xml', [('dog', shapes)])).clip('clip')['gt_seg_maps']
    assert np.array_equal(maps[1], rectangle(8, 2, 12, 6))


# --- which frames
@pytest.mark.parametrize(
    ('meta', 'uid', 'numbers'),
    [
        ('<size>20</size>', 'clip', [0, 5, 10, 15]),
        ('<size>11</size><start_frame>5</start_frame>', 'clip-1s', [5, 10, 15]),
        ('<start_frame>3</start_frame><stop_frame>14</stop_frame>', 'clip-1s', [5, 10]),
        ('<start_frame>0</start_frame><frame_filter>step=5</frame_filter>', 'clip', [0, 5, 10, 15]),
        # the frames that were seen and are nearest to the seconds
        ('<start_frame>1</start_frame><frame_filter>step=5</frame_filter>', 'clip', [1, 6, 11, 16]),
        (
            '<start_frame>4</start_frame><stop_frame>14</stop_frame><frame_filter>step=5</frame_filter>',
            'clip-1s',
            [4, 9, 14],
        ),
    ],
)
def test_frames_of_the_task(call, tmp_path, meta, uid, numbers):
    """No label is made up for frames that nobody saw."""
    shapes = [cvat_mask(i, rectangle(0, i, 4, i + 4)) for i in range(20)]
    made = call(write_cvat(tmp_path / 'a.xml', [('dog', shapes)], meta=meta))
    clip = made.clip(uid)
    assert [number_of(frame) for frame in clip['imgs']] == numbers
    assert [label.argmax(1)[0] for label in clip['gt_seg_maps']] == numbers
    wave, rate = soundfile.read(made.root / 'v2' / uid / 'audio.wav')
    assert len(wave) == len(numbers) * rate


def test_a_filter_that_drifts(call, tmp_path):
    """Of 9.9 frames a second each tenth, after a while the one after the second is nearest."""
    count = 130
    write_mp4(tmp_path / 'long.mp4', numbered(count), [i / 9.9 for i in range(count)])
    shapes = [cvat_mask(i, rectangle(0, i // 10, 4, i // 10 + 4)) for i in range(0, count, 10)]
    path = write_cvat(tmp_path / 'a.xml', [('dog', shapes)], 'long.mp4', meta='<frame_filter>step=10</frame_filter>')
    clip = call(path, videos=tmp_path).clip('long')
    assert [number_of(frame) for frame in clip['imgs']] == list(range(0, count, 10))
    assert [label.argmax(1)[0] for label in clip['gt_seg_maps']] == list(range(13))


def test_label_maps_between_the_seconds_are_clips_of_their_own(call, video, tmp_path):
    shapes = [cvat_mask(i, rectangle(0, i, 4, i + 4)) for i in range(20)]
    made = call(write_cvat(tmp_path / 'a.xml', [('dog', shapes)]), more=('--fps', '2', '--seconds', '3'))
    whole = SoundReader(open_source(str(video)).sound, 16000).span(0, 5 * 16000)
    clips = {'clip': (0, 3), 'clip-0.5s': (0.5, 3), 'clip-3s': (3, 1), 'clip-3.5s': (3.5, 1)}
    assert set(made.names) == set(clips)
    for uid, (start, length) in clips.items():
        numbers = [int(FPS * (start + i)) for i in range(length)]
        clip = made.clip(uid)
        assert [number_of(frame) for frame in clip['imgs']] == numbers
        assert [label.argmax(1)[0] for label in clip['gt_seg_maps']] == numbers
        wave, rate = soundfile.read(made.root / 'v2' / uid / 'audio.wav', dtype='float32')
        assert np.array_equal(wave, whole[int(start * rate) :][: length * rate])


def test_a_clip_in_which_nothing_sounds(call, tmp_path):
    made = call(write_cvat(tmp_path / 'a.xml', [('dog', [cvat_mask(10, SMALL)])]), more=('--seconds', '2'))
    assert made.names == {'clip': 'off-the-screen', 'clip-2s': 'dog'}


# --- videos
def test_turned_video(call, script, tmp_path):
    """Labels have the size that players show."""
    write_mp4(tmp_path / 'clip.mp4', numbered(6), FPS, rotation=90)
    shown = SIZE[::-1]
    mask = np.random.default_rng(3).random(shown) < 0.5
    made = call(write_cvat(tmp_path / 'a.xml', [('dog', [cvat_mask(0, mask)])], size=shown), videos=tmp_path)
    assert np.array_equal(made.clip('clip')['gt_seg_maps'][0], mask)
    stored = write_cvat(tmp_path / 'b.xml', [('dog', [cvat_mask(0, SMALL)])], size=SIZE)
    with pytest.raises(SystemExit, match=r'b\.xml: the labels are of 48 x 32 pixels, but clip\.mp4 has 32 x 48'):
        call(stored, videos=tmp_path, more=('--out', str(tmp_path / 'other')))
    assert not (tmp_path / 'other').exists()


def place(video: Path, *names: str) -> Path:
    folder, content = video.parent, video.read_bytes()
    video.unlink()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def own_video(video, tmp_path) -> Path:
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'clip.mp4').write_bytes(video.read_bytes())
    return tmp_path / 'in' / 'clip.mp4'


@pytest.mark.parametrize(
    ('there', 'asked', 'uid'),
    [
        (('b/clip.mp4',), 'clip.mp4', 'clip'),
        (('clip.mp4',), 'C:\\data\\b\\clip.mp4', 'clip'),
        (('b/clip.mp4', 'c/clip.mp4'), '/share/b/clip.mp4', 'clip'),
        (('clip.MKV', 'clip.json'), 'clip.mp4', 'clip'),
        (('clip.mp4', 'clip.mkv'), 'clip.mkv', 'clip'),
        ((unicodedata.normalize('NFD', 'Küche 1.mp4'),), 'Küche 1.mp4', unicodedata.normalize('NFD', 'Küche 1')),
        (('task.mp4',), '', 'task'),
    ],
)
def test_video_is_found(call, own_video, tmp_path, there, asked, uid):
    folder = place(own_video, *there)
    path = write_cvat(tmp_path / 'task.xml', [('dog', [cvat_mask(0, SMALL)])], asked)
    if not asked:
        path.write_text(path.read_text().replace('<name>a task</name>', ''))
    assert list(call(path, videos=folder).names) == [uid]


def test_video_is_missing_or_there_twice(call, own_video, tmp_path):
    folder = place(own_video, 'b/clip.mp4', 'c/clip.mp4')
    path = write_cvat(tmp_path / 'a.xml', [('dog', [cvat_mask(0, SMALL)])], 'x/clip.mp4')
    with pytest.raises(
        SystemExit, match=r"a\.xml: the video 'x/clip\.mp4' may be each of 2 .*: b/clip\.mp4, c/clip\.mp4"
    ):
        call(path, videos=folder)
    path = write_cvat(tmp_path / 'a.xml', [('dog', [cvat_mask(0, SMALL)])], 'x/dog.mp4')
    with pytest.raises(SystemExit, match=r'looked for x/dog\.mp4, dog\.mp4, dog with another ending'):
        call(path, videos=folder)


def test_two_videos_of_one_name(call, own_video, tmp_path):
    folder = place(own_video, 'b/clip.mp4', 'c/clip.mp4')
    files = [write_cvat(tmp_path / f'{x}.xml', [(x, [cvat_mask(0, SMALL)])], f'{x}/clip.mp4') for x in 'bc']
    assert call(*files, videos=folder).names == {'b-clip.mp4': 'b', 'c-clip.mp4': 'c'}


def test_jobs_of_a_video(call, tmp_path):
    """Two files of one video are clips of their own, unless they label the same frame."""
    parts = ('<stop_frame>9</stop_frame>', '<start_frame>10</start_frame>')
    files = [
        write_cvat(tmp_path / f'{i}.xml', [('dog', [cvat_mask(0, SMALL)])], meta=meta) for i, meta in enumerate(parts)
    ]
    made = call(*files)
    assert list(made.names) == ['clip', 'clip-2s'] and len(made.clip('clip-2s')['imgs']) == 2
    with pytest.raises(SystemExit, match=r'1\.xml: clip\.mp4 is labelled twice at 2 s, in several files'):
        call(*files, files[1], more=('--out', str(tmp_path / 'other')))


def test_not_a_video(call, own_video, tmp_path):
    own_video.write_text('no video')
    with pytest.raises(SystemExit, match=r'clip\.mp4 cannot be read as a video'):
        call(write_cvat(tmp_path / 'a.xml', [('dog', [cvat_mask(0, SMALL)])]), videos=own_video.parent)
    assert not (tmp_path / 'own').exists()


def test_nothing_is_labelled(call, tmp_path):
    path = write_cvat(tmp_path / 'a.xml', [('dog', [cvat_mask(0, SMALL)])], meta='<start_frame>90</start_frame>')
    with pytest.raises(SystemExit, match=r'nothing is labelled: .*a\.xml: no second of clip\.mp4 is labelled'):
        call(path)


# --- files and options
def test_zip_files(call, tmp_path):
    """As CVAT gives them."""
    path = write_cvat(tmp_path / 'annotations.xml', [('dog', [cvat_mask(0, SMALL)])])
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w', zipfile.ZIP_DEFLATED) as file:
        file.write(path, 'annotations.xml')
        file.writestr('images/frame_000000.PNG', b'')
    assert call(tmp_path / 'a.zip').names == {'clip': 'dog'}
    content = bytearray((tmp_path / 'a.zip').read_bytes())
    content[60:80] = bytes(20)
    (tmp_path / 'b.zip').write_bytes(content)
    with zipfile.ZipFile(tmp_path / 'c.zip', 'w') as file:
        file.writestr('readme.txt', b'')
    for name, message in (('b', 'cannot be read as XML'), ('c', 'an export has one xml file .*, found 0')):
        with pytest.raises(SystemExit, match=rf'{name}\.zip.*{message}'):
            call(tmp_path / f'{name}.zip', more=('--out', str(tmp_path / 'other')))


def test_missing_file(call, tmp_path):
    with pytest.raises(SystemExit, match=r'error: .*gone\.xml'):
        call(tmp_path / 'gone.xml')


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ([], 'one of --train, --val, --test must be given'),
        (['--train', 'a', '--fps', '0'], '--fps must be from 1 to 60, got 0'),
        (['--train', 'a', '--seconds', '0'], '--seconds must be from 1 to 3600, got 0'),
    ],
)
def test_wrong_arguments(script, args, message, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main([*args, '--videos', 'v', '--out', 'o'])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_limits_are_those_of_the_package(script):
    """They are written twice, so that --help needs no torch."""
    limits = sys.modules['video_labels']
    assert (limits.MAX_FPS, limits.MAX_SECONDS) == (MAX_FPS, MAX_SECONDS)
