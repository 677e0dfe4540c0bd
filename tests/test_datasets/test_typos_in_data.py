# SPDX-License-Identifier: Apache-2.0
"""Misspelt names and misnamed sounds: an error or a line in the log, never other data without a word."""

import json
from pathlib import Path

import archive
import numpy as np
import pytest
import soundfile
from mmengine.logging import MMLogger

from ovavss_mm.datasets import AVSBenchOVDataset, IndexedClip, LoadClipAudio, write_index
from ovavss_mm.engine.runner import AVRunner
from ovavss_mm.utils.config_check import ConfigError


def load(root, split='train', **kwargs) -> dict:
    """Samples of a data set by clip."""
    dataset = AVSBenchOVDataset(str(root), split, **({'base_names': 'base_names.txt'} | kwargs))
    return {info['clip_id']: info for info in map(dataset.get_data_info, range(len(dataset)))}


@pytest.fixture
def own(tmp_path) -> Path:
    """An archive that a test may spoil."""
    return archive.write_archive(tmp_path / 'own')


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Function that gives what was logged so far."""
    logger = MMLogger(f'typos-{tmp_path.name}', log_file=str(tmp_path / 'run.log'))
    monkeypatch.setattr(MMLogger, 'get_current_instance', classmethod(lambda cls: logger))
    return (tmp_path / 'run.log').read_text


def rename(root: Path, uid: str, a_obj: str) -> None:
    """Give a clip other names in metadata.csv."""
    clips = tuple(archive.Clip(c.uid, a_obj if c.uid == uid else c.a_obj, c.split, c.subset) for c in archive.CLIPS)
    archive.write_metadata(root, clips)


# --- names
@pytest.mark.parametrize(
    ('uid', 'a_obj', 'name', 'near', 'line'),
    [
        ('bird_0', 'Bird', 'Bird', 'bird', 2),
        ('dog_guitar', 'dog_giutar', 'giutar', 'guitar', 3),
        ('dog_guitar', 'dog, guitar', 'dog, guitar', 'guitar', 3),
        ('away', 'Off-the-screen', 'Off-the-screen', 'off-the-screen', 8),
        ('many', 'dgo_bird', 'dgo', 'dog', 9),  # of a subset that is not used
        ('test_horse', 'HORSE', 'HORSE', 'horse', 14),  # of another split
        ('test_horse', 'h orse', 'h orse', 'horse', 14),  # only the official training clip may have it
    ],
)
def test_name_that_is_no_class(own, uid, a_obj, name, near, line):
    rename(own, uid, a_obj)
    with pytest.raises(ValueError) as err:
        load(own)
    place = f'{own}/metadata.csv, line {line}: clip {uid}'
    assert str(err.value).startswith(f'{place} has the name {name!r}, which is no class; the nearest is {near!r}\n')


def test_endless_name(own):
    rename(own, 'val_cat', 'cat' + 'a' * 90000)
    with pytest.raises(ValueError, match=r"line 10: clip val_cat has the name 'cata+\.\.\., which is .* 'cat'") as err:
        load(own)
    assert len(str(err.value)) < 500


def test_many_wrong_names_are_counted(own):
    archive.write_metadata(own, tuple(archive.Clip(f'c{i}', f'thing{i // 2}', 'val', 'v2') for i in range(20)))
    with pytest.raises(ValueError) as err:
        load(own, 'val')
    assert str(err.value).count('which is no class') == 5 and 'and 5 more such names' in str(err.value)


def test_names_in_an_index(own, tmp_path):
    write_index(tmp_path / 'val.txt', 'val', [IndexedClip('v1s', 'val_cat', 5, ('Cat',))])
    with pytest.raises(ValueError, match=r"val\.txt, line 3: clip v1s/val_cat has the name 'Cat'.* nearest is 'cat'"):
        load(own, 'val', index_file=str(tmp_path / 'val.txt'))


def test_base_name_that_is_no_class(own):
    (own / 'base_names.txt').write_text('bird\nHorse\n')
    with pytest.raises(ValueError, match=r"base_names\.txt: .*: 'Horse'; the nearest name to 'Horse' is 'horse'"):
        load(own)


def test_blanks_around_names_do_not_matter(own):
    expected = {split: load(own, split) for split in ('train', 'val', 'test')}
    spaced = tuple(archive.Clip(c.uid, c.a_obj.replace('_', ' _\t'), c.split, c.subset) for c in archive.CLIPS)
    archive.write_metadata(own, spaced)
    (own / 'metadata.csv').write_text((own / 'metadata.csv').read_text().replace(',', ' , '))
    table = json.loads((own / 'label2idx.json').read_text())
    (own / 'label2idx.json').write_text(json.dumps({f' {name}\t': i for name, i in table.items()}))
    (own / 'base_names.txt').write_text('\n'.join(f'  {name} ' for name in archive.BASE))
    for split, infos in expected.items():
        for uid, found in load(own, split).items():
            assert all(found[key] == infos[uid][key] for key in ('names', 'vocabulary', 'audio_path'))


def test_name_given_twice_but_for_blanks(own):
    (own / 'label2idx.json').write_text('{"background": 0, "dog": 1, "dog ": 2}')
    with pytest.raises(ValueError, match=r"label2idx\.json: 'dog' is given twice"):
        load(own)


# --- what the log says
def test_clips_that_are_left_out(own, log):
    load(own)
    reasons = '1 of subset v1m, 4 with names that are not base (cat 2, '
    assert f'INFO - split train of {own}/metadata.csv: 3 of 8 clips are used; left out: {reasons}' in log()
    assert 'h orse 1' in log() and 'off-the-screen 1' in log()
    assert 'INFO - split train: 3 of 3 clips have sound\n' in log()
    load(own, 'val')
    assert f'split val of {own}/metadata.csv: 2 of 2 clips are used\n' in log()


def test_clips_of_an_index(own, tmp_path, log):
    write_index(tmp_path / 'val.txt', 'val', [IndexedClip('v1s', 'val_cat', 5, ('cat',))])
    load(own, 'val', index_file=str(tmp_path / 'val.txt'))
    assert f'split val of {tmp_path}/val.txt: all 1 clips are used\n' in log()


def test_no_clip_is_left(own):
    with pytest.raises(ValueError, match=r'no clip for .*\(0 of 8 clips are used; left out: 1 of subset v1m, 7 with'):
        load(own, base_names=['violin'])


def test_silent_clips_are_counted(own, log):
    load(own, 'test')
    assert 'INFO - split test: 2 of 3 clips have sound\n' in log()
    assert f'no sound file, silent: 1 ({own}/v1s/test_silent)' in log()


def test_no_clip_has_sound(own, log):
    for path in own.glob('*/*/audio.wav'):
        path.unlink()
    load(own)
    assert 'WARNING - split train: 0 of 3 clips have sound' in log()


def test_a_run_says_it_in_a_line(own):
    """Which line of which file, not the trace of what was called."""
    rename(own, 'bird_0', 'Bird')
    loader = dict(
        batch_size=1,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='AVSBenchOVDataset', data_root=str(own), split='train', base_names='all', _scope_='mmseg'),
    )
    with pytest.raises(ConfigError, match=r"metadata\.csv, line 2: clip bird_0 has the name 'Bird'"):
        AVRunner.build_dataloader(loader)


# --- sounds under other names
@pytest.mark.parametrize('name', ['audio.mp3', 'audio.MP3', 'audio.flac', 'audio.WAV', 'sound.wav', 'bird_0.ogg'])
def test_sound_of_another_name_is_taken(own, log, name):
    folder = own / 'v1s' / 'bird_0'
    (folder / 'audio.wav').unlink()
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(5 * 16000) / 16000)
    loud = {}
    for file in ('audio.wav', name):
        soundfile.write(folder / file, tone, 16000)
        loud[file] = LoadClipAudio()(load(own)['bird_0'])['audio']
        (folder / file).unlink()
    taken = f'no audio.wav, the only other sound file is taken: 1 ({folder}/{name})'
    assert f'WARNING - split train: 3 of 3 clips have sound\n  {taken}' in log()
    assert abs(loud[name] - loud['audio.wav']).mean() < 0.2  # log-mel; silence is over 4 away
    assert abs(LoadClipAudio()(load(own)['bird_0'])['audio'] - loud['audio.wav']).mean() > 1


@pytest.mark.parametrize('names', [['audio.m4a'], ['clip.MP4'], ['a.wav', 'b.wav'], ['audio.mp3', 'audio.flac']])
def test_sound_that_cannot_be_taken_is_named(own, log, names):
    folder = own / 'v1s' / 'bird_0'
    content = (folder / 'audio.wav').read_bytes()
    (folder / 'audio.wav').unlink()
    for name in (*names, 'notes.txt', '.hidden.wav'):
        (folder / name).write_bytes(content)
    assert load(own)['bird_0']['audio_path'] is None
    said = ', '.join(f'{folder}/{name}' for name in sorted(names))
    assert f'WARNING - split train: 2 of 3 clips have sound\n  no sound file, silent: 1 ({folder})' in log()
    assert f'{len(names)} ({said}); to convert one: ffmpeg -i FILE -vn -ac 1 audio.wav' in log()


def test_folders_are_listed_only_without_audio_wav(own, monkeypatch):
    listed = []
    monkeypatch.setattr('ovavss_mm.datasets.files.list_sounds', lambda folder: listed.append(folder) or [])
    load(own)
    assert listed == []
    load(own, 'test')
    assert listed == [str(own / 'v1s' / 'test_silent')]
