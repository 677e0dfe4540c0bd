# SPDX-License-Identifier: Apache-2.0
import json
import shutil

import archive
import pytest
import soundfile

from ovavss_mm.datasets import AVSBenchOVDataset, LoadClipLabels, read_metadata, select_clips, voc_palette
from ovavss_mm.datasets.metadata import read_visible

HEADER = 'vid,uid,s_min,s_sec,a_obj,split,label\n'


def make(root, split='train', **kwargs) -> AVSBenchOVDataset:
    return AVSBenchOVDataset(str(root), split, **({'base_names': 'base_names.txt', 'serialize_data': False} | kwargs))


def infos(dataset) -> dict:
    return {info['clip_id']: info for info in map(dataset.get_data_info, range(len(dataset)))}


@pytest.fixture
def own(tmp_path):
    """An archive that a test may spoil: one training clip of each subset."""
    return archive.write_archive(tmp_path / 'own', archive.CLIPS[:2])


# --- which clips


def test_training_clips_have_base_names_only(root):
    assert set(infos(make(root))) == {'bird_0', 'dog_guitar', 'horse_1'}


def test_val_and_test_keep_all_names(root):
    assert set(infos(make(root, 'val'))) == {'val_cat', 'val_away'}
    assert set(infos(make(root, 'test'))) == {'test_violin_dog', 'test_silent', 'test_horse'}


def test_subsets(root):
    assert set(infos(make(root, subsets=['v1m']))) == {'many'}
    assert set(infos(make(root, 'test', subsets=['v1s', 'v1m']))) == {'test_silent', 'test_many'}


def test_rule_is_a_function_of_the_rows(root):
    rows = read_metadata(str(root / 'metadata.csv'))
    assert rows == read_metadata(str(root / 'metadata.csv'))
    kept = select_clips(rows, 'train', ('v1s', 'v2'), (*archive.BASE, 'h orse'))
    assert [row['uid'] for row in kept] == ['bird_0', 'dog_guitar', 'horse_1', 'misspelt']
    assert select_clips(rows, 'val', ('v2',), ()) == [r for r in rows if r['uid'] == 'val_away']


def test_all_names_as_base_names(root):
    dataset = make(root, base_names='all')
    # Of the training clips only those with a name that is none are left out.
    assert set(infos(dataset)) == {'bird_0', 'dog_guitar', 'horse_1', 'cat_0', 'dog_cat'}
    assert dataset.metainfo['base_names'] == archive.NAMES
    assert dataset.metainfo['novel_names'] == ()


def test_base_names_as_list_and_indices(root):
    assert set(infos(make(root, base_names=['bird', 'cat']))) == {'bird_0', 'cat_0'}
    assert len(make(root, indices=2)) == 2


def test_binary_labels_have_one_name_and_the_same_clips(root):
    named, binary = make(root), make(root, binary=True)
    assert infos(binary).keys() == infos(named).keys()
    assert binary.metainfo['classes'] == ('background', 'sounding')
    for key, info in infos(binary).items():
        load = LoadClipLabels()
        shape = dict(ori_shape=archive.SIZE)
        ours, theirs = load(info | shape)['gt_seg_maps'], load(infos(named)[key] | shape)['gt_seg_maps']
        assert tuple(info['vocabulary']) == ('sounding',) and info['names'] == infos(named)[key]['names']
        assert ((theirs == 255) == (ours == 255)).all() and (theirs != 255).any()
        assert ((theirs > 0) == (ours > 0)).all() and set(ours[ours != 255]) == {0, 1}


# --- what a sample says


def test_metainfo(root):
    meta = make(root, lazy_init=True, metainfo={'note': 1}).metainfo
    assert meta['classes'] == ('background', *archive.NAMES)
    assert meta['palette'] == voc_palette(7)
    assert meta['base_names'] == archive.BASE
    assert meta['novel_names'] == ('cat', 'violin')
    assert meta['note'] == 1


def test_v1s_training_clip_has_one_label(root):
    info = infos(make(root))['bird_0']
    folder = root / 'v1s' / 'bird_0'
    assert info['subset'] == 'v1s'
    assert info['split'] == 'train'
    assert info['clip_dir'] == str(folder)
    assert info['num_frames'] == 5
    assert info['frame_paths'] == [str(folder / 'frames' / f'{i}.jpg') for i in range(5)]
    assert info['label_paths'] == [str(folder / 'labels_rgb' / '0.png')] + [None] * 4
    assert info['audio_path'] == str(folder / 'audio.wav')
    assert info['names'] == ('bird',)
    assert info['vocabulary'] == archive.NAMES


def test_frames_are_in_the_order_of_their_numbers(root):
    info = infos(make(root))['horse_1']
    numbers = [int(p.rsplit('/', 1)[1][:-4]) for p in info['frame_paths']]
    assert numbers == list(range(1, 11))
    assert [int(p.rsplit('/', 1)[1][:-4]) for p in info['label_paths']] == numbers


def test_odd_names_are_kept(root):
    assert infos(make(root, 'val'))['val_away']['names'] == ('off-the-screen',)


def test_no_wav_is_silence(root):
    assert infos(make(root, 'test'))['test_silent']['audio_path'] is None


def test_visible_names_are_those_that_sound_and_those_of_the_list(tmp_path):
    own = archive.write_archive(tmp_path / 'own')
    assert infos(make(own, 'test'))['test_horse']['visible_names'] == ('horse',)
    (own / 'visible.csv').write_text('uid,v_obj\ntest_horse,horse_violin\n')
    found = infos(make(own, 'test'))
    assert found['test_horse']['visible_names'] == ('horse', 'violin')
    assert found['test_violin_dog']['visible_names'] == ('violin', 'dog')
    (own / 'visible.csv').write_text('uid,names\ntest_horse,horse\n')
    with pytest.raises(ValueError, match=r"visible\.csv, line 1: expected the columns uid and v_obj, got \['uid', 'na"):
        make(own, 'test')


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ('uid,v_obj\n a , dog_ cat\n\nb,\n', dict(a=('dog', 'cat'), b=())),
        ('uid, v_obj\r\na,dog\r\n', dict(a=('dog',))),
        ('uid,v_obj\na,dog\na,cat\n', 'line 3: expected the uid of another clip'),
        ('uid,v_obj\na,dog,cat\n', 'line 2: .*got .*cat'),
    ],
)
def test_the_list_of_visible_names_is_read_with_care(tmp_path, text, found):
    (tmp_path / 'visible.csv').write_text(text)
    if isinstance(found, dict):
        assert read_visible(str(tmp_path / 'visible.csv')) == found
        return
    with pytest.raises(ValueError, match=rf'visible\.csv, {found}'):
        read_visible(str(tmp_path / 'visible.csv'))


def test_each_clip_comes_with_each_of_several_sounds(root):
    sounds = ['own', 'other', 'off_screen_6dB']
    plain, several = make(root, 'test'), make(root, 'test', sounds=sounds, test_mode=True)
    assert len(several) == 3 * len(plain)
    for i in range(len(several)):
        info, own = several.get_data_info(i), plain.get_data_info(i // 3)
        assert info['clip_id'] == own['clip_id'] and info['frame_paths'] == own['frame_paths']
        assert info['sound'] == sounds[i % 3]
        assert (info['audio_path'] == own['audio_path']) == (info['sound'] != 'other')
    assert [make(root, 'test', sounds='noise', test_mode=True).get_data_info(i)['sound'] for i in range(2)] == [
        'noise'
    ] * 2
    others = [make(root, 'test', sounds='other', sound_seed=seed, test_mode=True) for seed in range(6)]
    assert len({tuple(d.get_data_info(i)['audio_path'] for i in range(3)) for d in others}) > 1, 'drawn anew by seed'


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        (dict(sounds=['loud']), r"must be one of own, .* or such as 'off_screen_6dB', got 'loud'"),
        (dict(sounds=['own', 'own']), r"sounds must be different, .* got \['own', 'own'\]"),
        (dict(sounds=['noise', 'other']), "with 'own' among them if there are several"),
        (dict(sounds=['noise'], test_mode=False), 'sounds are for tests; training has MixClipAudio'),
    ],
)
def test_sounds_are_checked(root, wrong, words):
    with pytest.raises(ValueError, match=words):
        make(root, 'test', **(dict(test_mode=True) | wrong))


def test_without_labels(own):
    for path in own.glob('*/*/labels_rgb'):
        shutil.rmtree(path)
    info = infos(make(own, with_labels=False))['dog_guitar']
    assert info['label_paths'] == [None] * 10


# --- what can be wrong


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'split': 'training'}, "'training'"),
        ({'subsets': ['v3']}, r"\['v3'\]"),
        ({'subsets': 'v2'}, "'v2'"),
        ({'subsets': []}, r'\[\]'),
        ({'base_names': ['bird', 'whale']}, r"label2idx\.json.*'whale'"),
        ({'base_names': None}, "'all', got None"),
        ({'base_names': []}, "no clip for split 'train'.* 0 base names"),
        ({'metainfo': {'classes': ('a',)}}, 'metainfo cannot set classes'),
    ],
)
def test_wrong_arguments(root, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(root, **kwargs)


def test_missing_root_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'AVSBench-semantic.*data/README\.md'):
        make(tmp_path / 'AVSBench-semantic')
    path = tmp_path / 'data' / 'mini'
    with pytest.raises(FileNotFoundError) as err:
        make(path)
    command = f'python tools/dataset_converters/mini_world.py --out {path}'
    assert command in str(err.value)


@pytest.mark.parametrize('name', ['metadata.csv', 'label2idx.json', 'base_names.txt'])
def test_missing_file(own, name):
    (own / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        make(own)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'line 1: no column uid, a_obj, split, label'),
        ('vid,uid,split,label\n', 'line 1: no column a_obj'),
        (HEADER + 'a,a,0,0,dog,train\n', 'line 2: the number of fields'),
        (HEADER + 'a,a,0,0,dog,train,v2,x\n', 'line 2: the number of fields'),
        (HEADER + 'a,a,0,0,dog,train,v2\nb,b,0,0,dog,dev,v2\n', "line 3: split.*'dev'"),
        (HEADER + 'a,a,0,0,dog,train,v9\n', "line 2: label.*'v9'"),
        (HEADER + 'a,a,0,0,dog__cat,train,v2\n', "line 2: a_obj.*'dog__cat'"),
        (HEADER + 'a,../a,0,0,dog,train,v2\n', r"line 2: uid.*'\.\./a'"),
        (HEADER + 'a,a,0,0,dog,val,v2\n' * 2, "line 3: clip 'a' was in line 2"),
    ],
)
def test_malformed_metadata(own, text, message):
    (own / 'metadata.csv').write_text(text)
    with pytest.raises(ValueError, match=r'metadata\.csv, ' + message):
        make(own)


def test_metadata_with_byte_order_mark(own):
    path = own / 'metadata.csv'
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    assert len(make(own)) == 2


def test_missing_clips_are_counted(own):
    shutil.rmtree(own / 'v1s')
    shutil.rmtree(own / 'v2' / 'dog_guitar' / 'frames')
    with pytest.raises(FileNotFoundError) as err:
        make(own)
    message = str(err.value)
    assert '2 of 2 clips' in message
    assert str(own / 'v1s' / 'bird_0') in message
    assert str(own / 'v2' / 'dog_guitar' / 'frames') in message


def spoil_frames(folder):
    for path in (folder / 'frames').iterdir():
        path.unlink()


def spoil_gap(folder):
    (folder / 'frames' / '3.jpg').unlink()


def spoil_number(folder):
    (folder / 'frames' / '3.jpg').rename(folder / 'frames' / 'third.jpg')


def spoil_twice(folder):
    shutil.copy(folder / 'frames' / '3.jpg', folder / 'frames' / '03.jpg')


def spoil_labels(folder):
    (folder / 'labels_rgb' / '9.png').unlink()


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (spoil_frames, 'dog_guitar/frames: no .jpg files'),
        (spoil_gap, r'dog_guitar/frames: 3\.jpg is missing'),
        (spoil_number, r'third\.jpg: the name should be a number'),
        (spoil_twice, 'number 3 occurs twice'),
        (spoil_labels, r'10 frames \(0 to 9\) and 9 labels .*expected one a frame'),
    ],
)
def test_spoilt_clip(own, spoil, message):
    spoil(own / 'v2' / 'dog_guitar')
    with pytest.raises(ValueError, match=f'(?s)1 of 2 clips.*{message}'):
        make(own)


def test_v1s_label_of_the_wrong_frame(own):
    folder = own / 'v1s' / 'bird_0' / 'labels_rgb'
    (folder / '0.png').rename(folder / '1.png')
    with pytest.raises(ValueError, match=r'1 labels \(1\), expected one for the first frame'):
        make(own)


def test_too_many_names_for_a_label_map(own):
    table = {'background': 0} | {f'n{i}': i + 1 for i in range(255)}
    (own / 'label2idx.json').write_text(json.dumps(table))
    with pytest.raises(ValueError, match='at most 254 names.* 255'):
        make(own, base_names=['n1'])


def test_name_with_the_separator(own):
    (own / 'label2idx.json').write_text(json.dumps({'background': 0, 'bird': 1, 'fire_truck': 2}))
    with pytest.raises(ValueError, match='label2idx.json: "_" separates.*\'fire_truck\''):
        make(own, base_names=['bird'])


def test_bad_clips_point_to_the_check(own):
    spoil_gap(own / 'v2' / 'dog_guitar')
    with pytest.raises(ValueError, match=r'avsbench_ov\.py checks all clips.*--fix-index'):
        make(own)


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_no_sound_is_opened_at_the_start(root, monkeypatch, split):
    """Opening one header a clip takes minutes on network disks; the checker does that."""

    def refuse(file, *args, **kwargs):
        raise AssertionError(f'{file} was opened')

    for name in ('info', 'read', 'SoundFile'):
        monkeypatch.setattr(soundfile, name, refuse)
    found = infos(make(root, split))
    assert any(info['audio_path'] for info in found.values())
