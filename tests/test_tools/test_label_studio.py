# SPDX-License-Identifier: Apache-2.0
"""What people labelled in Label Studio becomes the label maps that the data set reads."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from label_files import Made, brush, load_tool, region, task, write_tasks
from video_files import clicks, number_of, numbered, write_mp4

SIZE = (32, 48)
FPS = 5.0


@pytest.fixture(scope='module')
def script():
    return load_tool('label_studio')


@pytest.fixture(scope='module')
def videos(tmp_path_factory) -> Path:
    """A folder with clip.mp4, six seconds of frames that have their numbers, with a click in the fourth one."""
    folder = tmp_path_factory.mktemp('videos')
    write_mp4(folder / 'clip.mp4', numbered(30), FPS, clicks(6, [3.5]))
    return folder


@pytest.fixture
def call(script, videos, tmp_path):
    """Function that converts tasks as split train; gives what was made of them."""

    def run(*tasks: dict, videos: Path = videos, more: tuple = ()) -> Made:
        path = write_tasks(tmp_path / 'a.json', list(tasks))
        script.main(['--train', str(path), '--videos', str(videos), '--out', str(tmp_path / 'own'), *more])
        return Made(tmp_path / 'own')

    return run


def noise(seed: int, density: float = 0.3, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).random(size) < density


def polygon(points: object, name: str = 'dog') -> dict:
    return region(noise(0), name, type='polygonlabels', value=dict(points=points, polygonlabels=[name], closed=True))


# --- what is taken
def test_conversion(call, tmp_path, capsys):
    """A second that nobody looked at parts clips; one in which somebody saw nothing sound does not."""
    masks = [noise(i) for i in range(4)]
    tasks = [
        task(0, [region(masks[0], 'fire_truck')]),
        task(1.0, []),
        task(2, annotations=[]),
        task('3.0', [region(masks[1], '犬'), dict(type='choices', value=dict(choices=['loud']))]),
        task(4, [region(masks[2], 'fire_truck'), region(masks[3] & ~masks[2], '犬')]),
    ]
    made = call(*tasks[::-1])
    assert made.rows == [['clip', 'fire-truck', 'train', 'v2'], ['clip-3s', 'fire-truck_犬', 'train', 'v2']]
    printed = capsys.readouterr().out
    assert '2 clips, 2 names\n2 of 2 clips have sound\n' in printed
    assert 'a.json: tasks of clip.mp4 that have no annotation are left out: 1' in printed
    clip = made.clip('clip')
    assert [number_of(frame) for frame in clip['imgs']] == [0, 5]
    assert np.array_equal(clip['gt_seg_maps'], [masks[0], 0 * masks[0]])
    clip = made.clip('clip-3s')
    assert [number_of(frame) for frame in clip['imgs']] == [15, 20]
    assert np.array_equal(clip['gt_seg_maps'], [2 * masks[1], np.where(masks[2], 1, 2 * masks[3])])
    wave, rate = soundfile.read(tmp_path / 'own/v2/clip-3s/audio.wav')
    assert len(wave) == 2 * rate and abs(np.abs(wave).argmax() / rate - 0.5) < 0.01


def test_the_last_annotation_counts(call):
    def note(name: str, changed: str, cancelled: bool = False) -> dict:
        return dict(result=[region(noise(0), name)], updated_at=changed, was_cancelled=cancelled)

    made = call(
        task(0, note('cat', '2026-03-02T09:00:00Z'), note('dog', '2026-03-01T09:00:00Z')),
        task(1, [region(noise(0), 'cow')], [region(noise(0), 'hen')]),
        task(2, note('owl', '2026-03-01T09:00:00Z'), note('rat', '2026-03-02T09:00:00Z', cancelled=True)),
    )
    assert made.names == {'clip': 'cat_hen_owl'}


def test_predictions_are_taken_if_asked_for(call, tmp_path):
    drawn = dict(result=[region(noise(1), 'cat')])
    tasks = task(0, [region(noise(0), 'dog')], predictions=[drawn]), task(1, predictions=[dict(result=[]), drawn])
    assert call(*tasks).names == {'clip': 'dog'}
    assert call(*tasks, more=('--predictions', '--out', str(tmp_path / 'own2'))) and Made(tmp_path / 'own2').names == {
        'clip': 'cat_dog'
    }
    with pytest.raises(SystemExit, match='no task has an annotation, .* --predictions takes'):
        call(tasks[1], more=('--out', str(tmp_path / 'own3')))


def test_polygons(call):
    made = call(task(0, [polygon([[25, 25], [75, 25], [75, 75.0], [25, 75]])]))
    expected = np.zeros(SIZE, bool)
    expected[8:24, 12:36] = True
    assert np.array_equal(made.clip('clip')['gt_seg_maps'][0], expected)


def test_tasks_between_the_label_maps(call, tmp_path, capsys):
    tasks = [task(i / 2, [region(noise(i), 'dog')]) for i in range(4)] + [task(99, [])]
    assert len(call(*tasks).clip('clip')['imgs']) == 2
    assert 'are left out: 3 (first at 0.5 s); --fps 2 makes two' in capsys.readouterr().out
    call(*tasks, more=('--fps', '2', '--out', str(tmp_path / 'two')))
    made = Made(tmp_path / 'two')
    assert list(made.names) == ['clip', 'clip-0.5s']
    assert np.array_equal(made.clip('clip')['gt_seg_maps'], [noise(0), noise(2)])
    assert np.array_equal(made.clip('clip-0.5s')['gt_seg_maps'], [noise(1), noise(3)])


def test_several_videos_in_a_file(call, videos, tmp_path):
    (tmp_path / 'in/b').mkdir(parents=True)
    for name in ('clip.mp4', 'b/clip.mp4'):
        (tmp_path / 'in' / name).write_bytes((videos / 'clip.mp4').read_bytes())
    with pytest.raises(SystemExit, match=r"a\.json: the video 'clip\.mp4' may be each of 2 files"):
        call(task(0, [region(noise(0), 'dog')]), videos=tmp_path / 'in')
    (tmp_path / 'in/clip.mp4').rename(tmp_path / 'in/other.mp4')
    made = call(
        task(0, [region(noise(0), 'dog')], video='b/clip.mp4'),
        task(0, [region(noise(1), 'cat')], video='other.mp4'),
        videos=tmp_path / 'in',
    )
    assert made.names == {'clip': 'dog', 'other': 'cat'}


def test_turned_video_of_odd_size(call, tmp_path):
    write_mp4(tmp_path / 'clip.mp4', numbered(5, (33, 47)), FPS, rotation=90, pix_fmt='yuv444p')
    mask = noise(0, size=(47, 33))
    assert np.array_equal(call(task(0, [region(mask, 'dog')]), videos=tmp_path).clip('clip')['gt_seg_maps'][0], mask)


# --- brush masks
@pytest.mark.parametrize('size', [(1, 1), (1, 9), (33, 47), (300, 300)])
@pytest.mark.parametrize('density', [0, 0.01, 0.5, 1])
def test_brush_masks_round_trip(script, size, density):
    mask = noise(4, density, size)
    values = script.decode_brush(brush(mask, soft=40), 4 * mask.size)
    assert np.array_equal(values.reshape(*size, 4), np.where(mask, 255, 40)[..., None].repeat(4, 2))
    for soft in (0, 40):  # soft edges are outside
        drawn = region(mask, 'dog') | dict(value=dict(format='rle', rle=brush(mask, soft), brushlabels=['dog']))
        expected = mask if mask.any() or not soft else ~mask  # of one colour
        assert np.array_equal(script.decode_region(drawn, size, ''), expected)


def test_brush_masks_are_those_of_label_studio(script):
    sdk = pytest.importorskip('label_studio_sdk.converter.brush')
    for density in (0, 0.02, 0.5, 1):
        mask = noise(5, density, (300, 301))
        for top in (1, 255):  # people give masks of both
            rle = sdk.mask2rle(mask.astype(np.uint8) * top)
            assert np.array_equal(script.decode_brush(rle, 4 * mask.size), sdk.decode_rle(rle))
            drawn = region(mask, 'dog', value=dict(format='rle', rle=rle, brushlabels=['dog']))
            assert np.array_equal(script.decode_region(drawn, mask.shape, ''), mask)
        assert np.array_equal(sdk.decode_rle(brush(mask)), np.repeat(mask.ravel() * 255, 4))


# --- what can be wrong; nothing is left under the final name
def spoilt(**value) -> dict:
    drawn = region(noise(0), 'dog')
    return drawn | dict(value=drawn['value'] | value)


@pytest.mark.parametrize(
    ('drawn', 'message'),
    [
        (spoilt(rle=None), r'result\[0\]: rle must be a list of numbers from 0 to 255, got None'),
        (spoilt(rle=[0, 300]), 'rle must be a list of numbers from 0 to 255'),
        (spoilt(rle=['a']), 'rle must be a list of numbers'),
        (spoilt(rle=[]), 'breaks off after 0 bytes'),
        (spoilt(rle=brush(noise(0))[:-9]), 'breaks off after'),
        (spoilt(rle=[255] * 40), 'must have 6144 values .4 a pixel., has 4294967295'),
        (spoilt(rle=[0, 0, 24, 0, 255, 0, 0, 0, 0]), 'values of a brush mask must have 8 bits, got 32'),
        (spoilt(format='png'), "format of a brush mask must be 'rle', got 'png'"),
        (spoilt(brushlabels=[]), r'a region must have one name, got \[\]'),
        (spoilt(brushlabels=['a', 'b']), 'a region must have one name'),
        (region(noise(0), 'dog', value=None), 'a region must have one name, got None'),
        (
            region(noise(0), 'dog', original_width=32),
            r'its picture has 32 x 32 pixels .*, a frame of clip\.mp4 .* 48 x 32',
        ),
        (region(noise(0), 'dog', original_height=None), 'its picture has 48 x None pixels'),
        (region(noise(0), 'dog', image_rotation=90), 'its picture was turned by 90 degrees'),
        (
            region(noise(0), 'dog', type='ellipselabels'),
            "a region of type 'ellipselabels'; brushlabels and polygonlabels",
        ),
        (region(noise(0), 'dog', type='brush'), "a region of type 'brush'"),
        (polygon([[1, 2], [3, 4]]), 'a polygon must have x and y of 3 or more corners'),
        (polygon([[1, 2], [3, 4], [5]]), r'points must be a list of \[x, y\] in percent'),
        (polygon([[1, 2], [3, 4], [5, '6']]), 'points must be a list'),
        (polygon([[1, 2], [3, 4], [5, 10**400]]), 'points must be a list'),
        (polygon([[1, 2], [3, 4], [5, float('nan')]]), 'points must be a list'),
        (polygon(None), 'points must be a list'),
    ],
)
def test_malformed_regions(call, tmp_path, drawn, message):
    with pytest.raises(SystemExit, match=rf'error: .*a\.json, \[1\] \(task 9\).*{message}'):
        call(task(0, []), task(1, [drawn]))
    assert [p.name for p in tmp_path.iterdir()] == ['a.json']


@pytest.mark.parametrize(
    ('tasks', 'message'),
    [
        ({'id': 1}, 'must be a list of tasks, got a dict: export as JSON'),
        ([7], r'\[0\] \(task none\): a task must have data'),
        ([{'id': 3, 'image': 'a.jpg', 'label': []}], r'\(task 3\): a task must have data: .* not JSON-MIN'),
        ([task(0, annotations=5)], 'annotations must be a list, got 5'),
        ([task(0, annotations=[[]])], 'annotations must be a list, got'),
        ([{'data': {'image': 'a.jpg', 'time': 1}}], r'data must have "video", the name of the file, got None'),
        ([{'data': {'video': 'a.mp4'}}], 'data must have "time" in seconds, got None'),
        ([{'data': {'video': 'a.mp4', 'time': -1}}], 'data must have "time" in seconds, got -1'),
        ([{'data': {'video': 'a.mp4', 'time': 10**400}}], 'data must have "time" in seconds'),
        ([task(0, dict(result=None))], 'the result in annotations must be a list of regions, got None'),
        ([task(0, []), task(0.0001, [])], r'\[1\] \(task 9\): .*\[0\] \(task 9\) is the same time'),
        ([task(0, [], video='gone.mp4')], r"a\.json: no video 'gone\.mp4' in .*looked for gone\.mp4"),
        ([], 'no names|1 to .* names, got 0'),
    ],
)
def test_malformed_files(script, videos, tmp_path, tasks, message):
    path = write_tasks(tmp_path / 'a.json', tasks)
    with pytest.raises(SystemExit, match=rf'error: .*{message}'):
        script.main(['--train', str(path), '--videos', str(videos), '--out', str(tmp_path / 'own')])
    assert [p.name for p in tmp_path.iterdir()] == ['a.json']


def test_no_json(script, videos, tmp_path):
    (tmp_path / 'a.json').write_text(json.dumps([task(0, [])])[:-5])
    with pytest.raises(SystemExit, match=r'error: .*a\.json, line 1: not valid JSON'):
        script.main(['--train', str(tmp_path / 'a.json'), '--videos', str(videos), '--out', str(tmp_path / 'own')])


def test_a_video_is_found_by_all_of_its_name(tmp_path):
    """With or without its ending; what follows another dot is part of the name."""
    tool = load_tool('video_clips')
    for name in ('my.mp4', 'my.clip.mp4', '2024.05.01 park.MOV'):
        (tmp_path / name).write_bytes(b'')
    for name, file in (
        ('my', 'my.mp4'), ('my.clip', 'my.clip.mp4'), ('my.clip.avi', 'my.clip.mp4'), ('my.mp4', 'my.mp4'),
        ('2024.05.01 park', '2024.05.01 park.MOV'), ('x/2024.05.01 park.MOV', '2024.05.01 park.MOV'),
    ):  # fmt: skip
        assert tool.find_videos(str(tmp_path), [SimpleNamespace(where='a', video=name)]) == [tmp_path / file]
