# SPDX-License-Identifier: Apache-2.0
"""Masks in COCO's forms become the label maps that the data set reads."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from pycocotools import mask as coco

from ovavss_mm.datasets import AVSBenchOVDataset, LoadClipAudio, LoadClipFrames, LoadClipLabels
from ovavss_mm.datasets.files import SOUNDS

SCRIPT = Path(__file__).parents[2] / 'tools/dataset_converters/coco_video.py'
HEIGHT, WIDTH = 20, 30


@pytest.fixture(scope='module')
def script():
    sys.path.insert(0, str(SCRIPT.parent))  # as of a script that is run
    spec = importlib.util.spec_from_file_location('coco_video', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def compressed(mask: np.ndarray) -> dict:
    rle = coco.encode(np.asfortranarray(mask))
    return {'size': list(mask.shape), 'counts': rle['counts'].decode()}


def uncompressed(mask: np.ndarray) -> dict:
    flat = mask.flatten(order='F')
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return {'size': list(mask.shape), 'counts': [int(n) for n in runs if n or runs[0] == n]}


def polygons(top: int, left: int, bottom: int, right: int) -> list:
    return [[left, top, right, top, right, bottom, left, bottom]]


# Background object first in the file, large: the small one must not vanish under the one after it.
SMALL, LARGE = (5, 6, 10, 12), (2, 3, 18, 25)


@pytest.fixture
def source(tmp_path) -> Path:
    """Two training videos of 4 frames at 2 a second, and one to test on."""
    root = tmp_path / 'source'
    (root / 'wav').mkdir(parents=True)
    videos = []
    for number, (name, suffix) in enumerate((('a', 'jpg'), ('b', 'png'), ('c', 'jpg')), 1):
        (root / 'frames' / name).mkdir(parents=True)
        files = [f'{name}/{i:05d}.{suffix}' for i in range(4)]
        for i, file in enumerate(files):
            gray = np.full((HEIGHT, WIDTH, 3), 50 * i, np.uint8)
            Image.fromarray(gray).save(root / 'frames' / file)
        videos.append({'id': number, 'file_names': files, 'width': WIDTH, 'height': HEIGHT})
    soundfile.write(root / 'wav' / 'a.wav', np.full(32000, 0.5), 16000)
    categories = [{'id': 7, 'name': 'fire_truck'}, {'id': 3, 'name': 'dog'}]
    small, large = rectangle(*SMALL), rectangle(*LARGE)
    notes = [
        # The second frame of two is not taken, nor is what is annotated there alone.
        note(1, 3, [compressed(small), None, uncompressed(small), None]),
        note(1, 7, [polygons(*LARGE), None, None, compressed(large)]),
        note(2, 7, [None, compressed(large), None, None]),
    ]
    write(root / 'train.json', videos[:2], categories, notes)
    notes = [note(3, 3, [None, None, uncompressed(large), None])]
    write(root / 'test.json', videos[2:], categories, notes)
    return root


def note(video: int, category: int, segmentations: list) -> dict:
    return {'video_id': video, 'category_id': category, 'segmentations': segmentations}


def write(path: Path, videos: list, categories: list, notes: list) -> None:
    text = json.dumps({'videos': videos, 'categories': categories, 'annotations': notes})
    path.write_text(text)


def call(script, source, out, *more) -> None:
    paths = {'train': 'train.json', 'test': 'test.json', 'frames': 'frames', 'sounds': 'wav'}
    args = [arg for key, path in paths.items() for arg in (f'--{key}', str(source / path))]
    script.main([*args, '--out', str(out), '--step', '2', *more])


def labels_of(dataset, index: int) -> np.ndarray:
    return LoadClipLabels()(LoadClipFrames()(dataset.get_data_info(index)))['gt_seg_maps']


def test_conversion(script, source, tmp_path, capsys):
    call(script, source, tmp_path / 'own')
    names = ', '.join(SOUNDS)
    assert capsys.readouterr().out == (
        f'{tmp_path}/own: 3 clips, 2 names\n1 of 3 clips have sound\n'
        f'  no sound in {source}/wav: 2 clips, b (no b, 2), c (no c, 3) with {names}\n'
    )
    train = AVSBenchOVDataset(str(tmp_path / 'own'), 'train', base_names='all')
    assert train.metainfo['classes'] == ('background', 'dog', 'fire-truck')
    # In clip b nothing is annotated in the frames that are taken: not one to train with.
    assert [train.get_data_info(i)['clip_id'] for i in range(len(train))] == ['a']
    info = train.get_data_info(0)
    assert info['names'] == ('dog', 'fire-truck')
    frames = LoadClipFrames()(dict(info))['imgs']
    assert frames.shape == (2, HEIGHT, WIDTH, 3)
    assert abs(frames.mean((1, 2, 3)) - [0, 100]).max() < 2
    small, large = rectangle(*SMALL), rectangle(*LARGE)
    expected = np.stack([np.where(small, 1, np.where(large, 2, 0)), small])
    assert np.array_equal(labels_of(train, 0), expected)
    assert LoadClipAudio()(dict(info))['audio'].shape == (2, 1, 96, 64)


def test_silent_and_unseen(script, source, tmp_path):
    call(script, source, tmp_path / 'own')
    text = (tmp_path / 'own' / 'metadata.csv').read_text()
    assert 'b,off-the-screen,train,v2' in text
    test = AVSBenchOVDataset(str(tmp_path / 'own'), 'test', base_names=['dog'])
    info = test.get_data_info(0)
    assert info['audio_path'] is None and info['names'] == ('dog',)
    expected = np.stack([np.zeros((HEIGHT, WIDTH)), rectangle(*LARGE)])
    assert np.array_equal(labels_of(test, 0), expected)
    assert test.metainfo['novel_names'] == ('fire-truck',)


def test_every_frame(script, source, tmp_path):
    call(script, source, tmp_path / 'own', '--step', '1')
    train = AVSBenchOVDataset(str(tmp_path / 'own'), 'train', base_names='all')
    assert len(train) == 2
    assert [train.get_data_info(i)['num_frames'] for i in range(2)] == [4, 4]
    assert np.array_equal(labels_of(train, 1)[1], 2 * rectangle(*LARGE))


def test_jpeg_frames_are_copied(script, source, tmp_path):
    call(script, source, tmp_path / 'own')
    copied = tmp_path / 'own' / 'v2' / 'a' / 'frames' / '1.jpg'
    assert copied.read_bytes() == (source / 'frames' / 'a' / '00002.jpg').read_bytes()
    converted = Image.open(tmp_path / 'own' / 'v2' / 'b' / 'frames' / '1.jpg')
    assert converted.format == 'JPEG'


# --- what can be wrong; nothing is left under the final name
def spoil_frame(source):
    Image.new('RGB', (5, 5)).save(source / 'frames' / 'a' / '00002.jpg')


def spoil_no_frame(source):
    (source / 'frames' / 'a' / '00002.jpg').unlink()


def spoil_mask(source):
    path = source / 'train.json'
    path.write_text(path.read_text().replace('"size": [20, 30]', '"size": [30, 20]'))


def spoil_category(source):
    path = source / 'train.json'
    path.write_text(path.read_text().replace('"category_id": 3', '"category_id": 99'))


def spoil_json(source):
    (source / 'train.json').write_text('{"videos": ')


def spoil_name(source):
    path = source / 'test.json'
    path.write_text(path.read_text().replace('"dog"', '"background"'))


def spoil_twice(source):
    (source / 'test.json').write_text((source / 'train.json').read_text())


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (spoil_frame, r'00002\.jpg has \(5, 5\) pixels'),
        (spoil_no_frame, r'00002\.jpg'),
        (spoil_mask, r'a mask has \[20, 30\] pixels'),
        (spoil_category, r'train\.json, annotations\[0\] \(video_id 1\): category_id 99 is not in the file'),
        (spoil_json, r'train\.json, line 1: .*Expecting value'),
        (spoil_name, "'background'"),
        (spoil_twice, 'two videos have the name a'),
    ],
)
def test_wrong_input(script, source, tmp_path, spoil, message):
    spoil(source)
    with pytest.raises(SystemExit, match=f'error: .*{message}'):
        call(script, source, tmp_path / 'own')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['source']


# --- JSON that is malformed, each named by its place
def change(source: Path, part: str, index: int, **values) -> None:
    """Change keys of an entry of train.json; None removes one."""
    content = json.loads((source / 'train.json').read_text())
    for key, value in values.items():
        content[part][index][key] = value
        if value is None:
            del content[part][index][key]
    (source / 'train.json').write_text(json.dumps(content))


@pytest.mark.parametrize(
    ('part', 'index', 'values', 'message'),
    [
        ('videos', 0, {'file_names': None}, r'videos\[0\] \(id 1\): file_names must be a list .*, got no file_names'),
        ('videos', 1, {'file_names': []}, r'videos\[1\] \(id 2\): file_names .* got \[\]'),
        ('videos', 0, {'width': '30'}, r"videos\[0\] \(id 1\): width must be a number of pixels, got '30'"),
        ('videos', 0, {'height': 0}, r'videos\[0\] \(id 1\): height must be'),
        ('videos', 0, {'id': '../up'}, r"videos\[0\] \(id '\.\./up'\): id must be"),
        ('videos', 0, {'id': 2}, r'videos\[1\] \(id 2\): videos\[0\] has the same id'),
        ('categories', 0, {'name': None}, r'categories\[0\] \(id 7\): name must be text'),
        ('categories', 0, {'id': 3}, r'categories\[1\] \(id 3\): categories\[0\] has the same id'),
        ('annotations', 0, {'video_id': 8}, r'annotations\[0\] \(video_id 8\): video_id 8 is not in the file'),
        ('annotations', 1, {'video_id': None}, r'annotations\[1\] \(no id\): video_id must be'),
        ('annotations', 0, {'segmentations': None}, r'annotations\[0\] \(video_id 1\): segmentations must be a list'),
        (
            'annotations',
            0,
            {'segmentations': [None]},
            r'annotations\[0\] \(video_id 1\): 1 segmentations, its video has 4',
        ),
    ],
)
def test_malformed_entries(script, source, tmp_path, part, index, values, message):
    change(source, part, index, **values)
    with pytest.raises(SystemExit, match=rf'error: .*train\.json, {message}'):
        call(script, source, tmp_path / 'own')


def test_annotation_that_is_there_twice(script, source, tmp_path):
    for index in (0, 2):
        change(source, 'annotations', index, id=4)
    with pytest.raises(SystemExit, match=r'annotations\[2\] \(id 4, video_id 2\): annotations\[0\] has the same id'):
        call(script, source, tmp_path / 'own')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('[]', "no list 'videos' as in YouTube-VIS, but a list"),
        ('{"images": [], "annotations": []}', "no list 'videos' .* 'images', 'annotations'"),
        ('{"videos": {}}', "no list 'videos'"),
        ('{"videos": [7]}', r'videos\[0\] \(no id\): id must be'),
        ('{"videos": [], "categories": []}', "no list 'annotations'"),
    ],
)
def test_json_of_another_kind(script, source, tmp_path, text, message):
    (source / 'train.json').write_text(text)
    with pytest.raises(SystemExit, match=rf'error: .*train\.json.*{message}'):
        call(script, source, tmp_path / 'own')


PIXELS = HEIGHT * WIDTH


@pytest.mark.parametrize(
    ('mask', 'message'),
    [
        ([[2, 3, 25, 3, 25, 18, 2]], '3 or more corners, not 7 numbers'),
        ([[2, 3, 25, 18]], '3 or more corners, not 4 numbers'),
        ([[[2, 3], [25, 3], [25, 18]]], 'list of numbers x, y'),
        ([2, 3, 25, 3, 25, 'a'], 'list of numbers x, y'),
        ([[2, 3, 25, 3, 25, None]], 'list of numbers x, y'),
        ([[2, 3, 25, 3, 25, float('nan')]], 'list of numbers x, y'),
        ([[2, 3, 1e9, 3, 1e9, 1e9]], 'list of numbers x, y'),
        ([[2, 3, 25, 3, 25, 18], 5], 'list of numbers x, y'),
        ([[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]], 'in pixels, not in parts'),
        ([[]], '3 or more corners, not 0'),
        ('mask.png', 'an RLE, a list of polygons or null'),
        (7, 'an RLE, a list of polygons or null'),
        ({}, 'size .height, width. and counts'),
        ({'counts': [PIXELS]}, 'size .height, width. and counts'),
        ({'size': [HEIGHT, WIDTH]}, 'size .height, width. and counts'),
        ({'size': [HEIGHT, WIDTH], 'counts': 5}, 'size .height, width. and counts'),
        ({'size': [HEIGHT], 'counts': [PIXELS]}, r'a mask has \[20\] pixels, its video \(30, 20\)'),
        ({'size': [HEIGHT, WIDTH], 'counts': [10, 10]}, 'of 600 pixels in all'),
        ({'size': [HEIGHT, WIDTH], 'counts': [10, PIXELS]}, 'of 600 pixels in all'),
        ({'size': [HEIGHT, WIDTH], 'counts': [-10, PIXELS + 10]}, 'numbers from 0 up'),
        ({'size': [HEIGHT, WIDTH], 'counts': [0.5, PIXELS - 0.5]}, 'numbers from 0 up'),
        ({'size': [HEIGHT, WIDTH], 'counts': []}, 'of 600 pixels in all'),
        ({'size': [HEIGHT, WIDTH], 'counts': ''}, 'of 600 pixels in all'),
        ({'size': [HEIGHT, WIDTH], 'counts': compressed(rectangle(*LARGE))['counts'][:-2]}, 'counts of an RLE'),
        ({'size': [HEIGHT, WIDTH], 'counts': 'wörter'}, 'no text that COCO writes'),
    ],
)
def test_malformed_masks(script, source, tmp_path, mask, message):
    change(source, 'annotations', 1, id=5, segmentations=[None, None, mask, None])
    place = r'train\.json, annotations\[1\] \(id 5, video_id 1\), frame 2'
    with pytest.raises(SystemExit, match=f'error: .*{place}: .*{message}.*, got '):
        call(script, source, tmp_path / 'own')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['source']


def test_one_flat_polygon_and_no_mask(script, source, tmp_path):
    segmentations = [polygons(*LARGE)[0], [], [], uncompressed(rectangle(0, 0, 0, 0))]
    change(source, 'annotations', 1, segmentations=segmentations)
    change(source, 'annotations', 0, segmentations=[None] * 4)
    call(script, source, tmp_path / 'own', '--step', '1')
    train = AVSBenchOVDataset(str(tmp_path / 'own'), 'train', base_names='all')
    expected = np.zeros((4, HEIGHT, WIDTH))
    expected[0] = 2 * rectangle(*LARGE)
    assert np.array_equal(labels_of(train, 0), expected)
    assert train.get_data_info(0)['names'] == ('fire-truck',)


def test_runs_are_those_of_pycocotools(script):
    rng = np.random.default_rng(0)
    for density in (0, 0.02, 0.5, 1):
        for shape in ((HEIGHT, WIDTH), (1, 1), (300, 200)):
            mask = (rng.random(shape) < density).astype(np.uint8)
            mask[: shape[0] // 2] = density > 0.1  # long runs have several letters
            for rle in (compressed(mask), uncompressed(mask)):
                assert np.array_equal(script.decode(rle, shape, ''), mask)


# --- sound under other names
def move(source: Path, folder: str) -> None:
    """Put the frames of videos a and b into a/../folder, and say so in train.json."""
    content = json.loads((source / 'train.json').read_text())
    for video in content['videos']:
        for name in video['file_names']:
            new = folder.format(name.split('/')[0]) + name[1:]
            (source / 'frames' / new).parent.mkdir(parents=True, exist_ok=True)
            (source / 'frames' / name).rename(source / 'frames' / new)
        video['file_names'] = [folder.format(n.split('/')[0]) + n[1:] for n in video['file_names']]
    (source / 'train.json').write_text(json.dumps(content))


@pytest.mark.parametrize(
    ('frames', 'sound', 'uid'),
    [
        ('train/{}', 'train/a.wav', 'train-a'),
        ('train/{}', 'train-a.wav', 'train-a'),
        ('train/{}', 'a.wav', 'train-a'),
        ('{}/frames', 'a.wav', 'a-frames'),
        ('{}', 'train/a.wav', 'a'),
        ('{}', '1.wav', 'a'),
        ('train/{}', 'a.WAV', 'train-a'),
        ('train/{}', '1.flac', 'train-a'),
        ('./{}', 'a.mp3', 'a'),
    ],
)
def test_sound_is_found(script, source, tmp_path, capsys, frames, sound, uid):
    move(source, frames)
    (source / 'wav' / 'a.wav').unlink()
    path = source / 'wav' / sound
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, np.full(32000, 0.5), 16000)
    call(script, source, tmp_path / 'own')
    assert '\n1 of 3 clips have sound\n' in capsys.readouterr().out
    wave, rate = soundfile.read(tmp_path / 'own' / 'v2' / uid / 'audio.wav')
    assert rate == 16000 and abs(wave[10000:20000] - 0.5).max() < 0.01
    assert [p.name for p in tmp_path.glob('own/v2/*/audio.*')] == ['audio.wav']


def test_sound_of_another_video_is_not_taken(script, source, tmp_path, capsys):
    """A folder that is named as another video's id, and names that two videos share."""
    content = json.loads((source / 'train.json').read_text())
    content['videos'][0]['id'], content['videos'][1]['id'] = 'b', 'a'  # each has the other's folder as its id
    content['annotations'] = []
    (source / 'train.json').write_text(json.dumps(content))
    (source / 'wav' / 'frames.wav').write_bytes((source / 'wav' / 'a.wav').read_bytes())
    call(script, source, tmp_path / 'own')
    assert [p.parent.name for p in tmp_path.glob('own/v2/*/audio.wav')] == ['a']
    assert 'sounds that belong to no video: 1 (frames.wav)' in capsys.readouterr().out


def test_videos_of_one_folder_are_named_by_their_ids(script, source, tmp_path, capsys):
    move(source, 'all/{}')
    for path in sorted(source.glob('frames/all/*/*')):
        path.rename(path.parents[1] / (path.parent.name + path.name))
    text = (source / 'train.json').read_text().replace('all/a/', 'all/a').replace('all/b/', 'all/b')
    (source / 'train.json').write_text(text)
    (source / 'wav' / 'a.wav').rename(source / 'wav' / '2.wav')
    call(script, source, tmp_path / 'own')
    assert sorted(p.name for p in tmp_path.glob('own/v2/*')) == ['1', '2', 'c']
    assert (tmp_path / 'own/v2/2/audio.wav').exists() and '1 of 3 clips have sound' in capsys.readouterr().out


def test_no_sound_is_said(script, source, tmp_path, capsys):
    (source / 'wav' / 'a.wav').rename(source / 'wav' / 'a.m4a')
    (source / 'wav' / 'other.txt').touch()
    call(script, source, tmp_path / 'own')
    out = capsys.readouterr().out
    assert '\n0 of 3 clips have sound\n' in out and 'a (no a, 1), b (no b, 2), c (no c, 3)' in out
    assert 'of a kind that is not read: 1 (a.m4a); convert them: ffmpeg' in out


@pytest.mark.parametrize('option', ['--sounds', '--frames'])
def test_missing_folder(script, source, tmp_path, option):
    with pytest.raises(SystemExit, match=f'error: {option} must be a folder, got .*gone'):
        call(script, source, tmp_path / 'own', option, str(source / 'gone'))
    assert not (tmp_path / 'own').exists()


def test_nothing_is_overwritten(script, source, tmp_path):
    (tmp_path / 'own').mkdir()
    with pytest.raises(SystemExit, match='own is there already'):
        call(script, source, tmp_path / 'own')
    assert list((tmp_path / 'own').iterdir()) == []


@pytest.mark.parametrize('args', [[], ['--train', 'a.json', '--step', '0']])
def test_wrong_arguments(script, args, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main([*args, '--frames', 'f', '--sounds', 's', '--out', 'o'])
    assert stop.value.code == 2
    assert '--step must be at least 1' in capsys.readouterr().err
