# SPDX-License-Identifier: Apache-2.0
"""Masks in COCO's forms become the label maps that the data set reads."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from pycocotools import mask as coco

from ovavss_mm.datasets import AVSBenchOVDataset, LoadClipAudio, LoadClipFrames, LoadClipLabels

SCRIPT = Path(__file__).parents[2] / 'tools/dataset_converters/coco_video.py'
HEIGHT, WIDTH = 20, 30


@pytest.fixture(scope='module')
def script():
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
    assert capsys.readouterr().out == f'{tmp_path}/own: 3 clips, 2 names\n'
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
        (spoil_category, 'lacks a key, id or mask: 99'),
        (spoil_json, 'Expecting value'),
        (spoil_name, "'background'"),
        (spoil_twice, 'two videos have the name a'),
    ],
)
def test_wrong_input(script, source, tmp_path, spoil, message):
    spoil(source)
    with pytest.raises(SystemExit, match=f'error: .*{message}'):
        call(script, source, tmp_path / 'own')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['source']


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
