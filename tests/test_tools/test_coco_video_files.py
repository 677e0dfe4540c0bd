# SPDX-License-Identifier: Apache-2.0
"""COCO's masks of videos in several files, with the sound of the videos."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from label_files import Made, load_tool
from PIL import Image
from video_files import clicks, numbered, write_mp4

SIZE = (20, 30)


@pytest.fixture(scope='module')
def script():
    return load_tool('coco_video')


@pytest.fixture
def source(tmp_path) -> Path:
    """Two videos of two frames, each in a file of its own with the ids of the other; an object fills the frames."""
    root = tmp_path / 'source'
    (root / 'sounds').mkdir(parents=True)
    for name in 'ab':
        (root / 'frames' / name).mkdir(parents=True)
        files = [f'{name}/{i}.jpg' for i in range(2)]
        for file in files:
            Image.new('RGB', SIZE[::-1]).save(root / 'frames' / file)
        whole = dict(size=SIZE, counts=[0, SIZE[0] * SIZE[1]])
        content = dict(
            videos=[dict(id=1, file_names=files, width=SIZE[1], height=SIZE[0])],
            categories=[dict(id=1, name=f'truck-{name}'), dict(id=2, name='dog')],
            annotations=[dict(video_id=1, category_id=1, segmentations=[whole, whole])],
        )
        (root / f'{name}.json').write_text(json.dumps(content))
    return root


@pytest.fixture
def call(script, source, tmp_path):
    """Function that converts files of ``source`` as split train."""

    def run(*names: str) -> Made:
        paths = [f'--frames={source / "frames"}', f'--sounds={source / "sounds"}', f'--out={tmp_path / "own"}']
        script.main([*paths, '--train', *(str(source / name) for name in names)])
        return Made(tmp_path / 'own')

    return run


def test_several_files(call):
    made = call('a.json', 'b.json')
    assert made.names == {'a': 'truck-a', 'b': 'truck-b'}
    assert made.label2idx == {'background': 0, 'dog': 1, 'truck-a': 2, 'truck-b': 3}
    for uid, label in (('a', 2), ('b', 3)):
        assert np.array_equal(made.clip(uid)['gt_seg_maps'], np.full((2, *SIZE), label))


def test_a_file_that_is_given_twice(call):
    with pytest.raises(SystemExit, match='two videos have the name a'):
        call('a.json', 'b.json', 'a.json')


def test_sound_of_videos(call, source, tmp_path, capsys):
    """It begins with the pictures; a wav file of the same name comes first."""
    sounds = source / 'sounds'
    soundfile.write(sounds / 'a.wav', np.full(32000, 0.5), 16000)
    write_mp4(sounds / 'a.mp4', numbered(10), 5.0, clicks(2, [1.5]))
    write_mp4(sounds / 'b.MOV', numbered(10), 5.0, clicks(2, [0.5]), start=3.0)
    call('a.json', 'b.json')
    assert capsys.readouterr().out.endswith('\n2 of 2 clips have sound\n')
    assert (tmp_path / 'own/v2/a/audio.wav').read_bytes() == (sounds / 'a.wav').read_bytes()
    wave, rate = soundfile.read(tmp_path / 'own/v2/b/audio.wav')
    assert (len(wave), rate) == (2 * 16000, 16000) and abs(np.abs(wave).argmax() / rate - 0.5) < 0.01


def test_silent_video(call, source, tmp_path, capsys):
    write_mp4(source / 'sounds' / 'a.mkv', numbered(10), 5.0)
    call('a.json')
    assert 'videos that have no sound in them: 1 (a.mkv)' in (out := capsys.readouterr().out)
    assert '0 of 1 clips have sound' in out and 'belong to no video' not in out
    assert not (tmp_path / 'own/v2/a/audio.wav').exists()


def test_video_that_cannot_be_read(call, source, tmp_path):
    (source / 'sounds' / 'b.mp4').write_text('no video')
    with pytest.raises(SystemExit, match=r'b\.mp4 cannot be read as a video'):
        call('a.json', 'b.json')
    assert not (tmp_path / 'own').exists()
