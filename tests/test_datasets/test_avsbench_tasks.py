# SPDX-License-Identifier: Apache-2.0
"""S4, MS3 and AVSS: which clips they have, and both layouts of their files."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from archive import CLIPS, NAMES, label_map, write_archive
from PIL import Image

from ovavss_mm.datasets import AVSBenchDataset, LoadClipFrames, LoadClipLabels
from ovavss_mm.datasets.vocabulary import PACKAGED_NAMES, read_names

COUNTS = Path(__file__).parents[1] / 'data/avsbench_semantic_counts.csv'
PIPELINE = [LoadClipFrames(), LoadClipLabels()]


@pytest.fixture(scope='module')
def real(tmp_path_factory) -> Path:
    """The real list of clips, with other names of clips, and no clip."""
    root = tmp_path_factory.mktemp('real')
    with open(COUNTS) as file, open(root / 'metadata.csv', 'w', newline='') as out:
        writer = csv.writer(out)
        writer.writerow(('uid', 'a_obj', 'split', 'label'))
        for i, row in enumerate(csv.DictReader(file)):
            for k in range(int(row['clips'])):
                writer.writerow((f'{i}-{k}', row['a_obj'], row['split'], row['label']))
    labels = {name: i for i, name in enumerate(('background', *read_names(str(PACKAGED_NAMES))))}
    (root / 'label2idx.json').write_text(json.dumps(labels))
    return root


def test_a_name_of_avss_that_is_no_class_is_an_error(real, tmp_path):
    """As in AVSBench-OV; the binary tasks have no names to compare with."""
    text = (real / 'metadata.csv').read_text().replace(',violin,', ',Violin,', 1)
    (tmp_path / 'metadata.csv').write_text(text)
    (tmp_path / 'label2idx.json').write_bytes((real / 'label2idx.json').read_bytes())
    with pytest.raises(ValueError, match=r"csv, line \d+: .*'Violin', which is no class; the nearest is 'violin'"):
        AVSBenchDataset(tmp_path, 'test', 'avss', lazy_init=True).rows()
    assert len(AVSBenchDataset(tmp_path, 'test', 's4', lazy_init=True).rows()) == 740


@pytest.mark.parametrize(
    ('task', 'counts', 'classes'),
    [('s4', (3452, 740, 740), 2), ('ms3', (296, 64, 64), 2), ('avss', (8498, 1304, 1554), 71)],
)
def test_counts_are_those_of_the_real_list(real, task, counts, classes):
    for split, count in zip(('train', 'val', 'test'), counts, strict=True):
        dataset = AVSBenchDataset(real, split, task, lazy_init=True)
        assert len(dataset.rows()) == count
        assert len(dataset.metainfo['classes']) == classes
    assert sum(counts) == {'s4': 4932, 'ms3': 424, 'avss': 11356}[task]


# ------------------------------------------------------------------ AVSBench-semantic
@pytest.fixture(scope='module')
def semantic(tmp_path_factory) -> Path:
    return write_archive(tmp_path_factory.mktemp('semantic') / 'archive')


def test_s4_tells_sounding_from_silent_and_trains_on_first_frames(semantic):
    dataset = AVSBenchDataset(semantic, 'train', 's4', pipeline=PIPELINE)
    assert dataset.metainfo['classes'] == ('background', 'sounding')
    samples = {sample['clip_id']: sample for sample in dataset}
    assert set(samples) == {clip.uid for clip in CLIPS if clip.subset == 'v1s' and clip.split == 'train'}
    labels = samples['cat_0']['gt_seg_maps']
    (clip,) = (clip for clip in CLIPS if clip.uid == 'cat_0')
    assert np.array_equal(labels[0], label_map(clip, 0) > 0) and (labels[1:] == 255).all()


def test_avss_has_all_subsets_and_takes_labels_as_they_are(semantic):
    dataset = AVSBenchDataset(semantic, 'test', 'avss', pipeline=PIPELINE, test_mode=True)
    assert {sample['subset'] for sample in dataset} == {'v1s', 'v1m', 'v2'}
    assert dataset.metainfo['classes'] == ('background', *NAMES)
    dataset = AVSBenchDataset(semantic, 'train', 'avss', pipeline=PIPELINE)
    sample = next(sample for sample in dataset if sample['clip_id'] == 'dog_cat')
    (clip,) = (clip for clip in CLIPS if clip.uid == 'dog_cat')
    assert np.array_equal(sample['gt_seg_maps'][0], label_map(clip, 0)), 'novel names are names like others'


# ------------------------------------------------------------------ AVSBench-object
def write_object(root: Path, key: str) -> Path:
    """Two clips of S4 or MS3, each of five frames of 8 x 12 pixels."""
    single = key == 's4'
    root.mkdir()
    columns = ('name', 'split', 'category') if single else ('video_id', 'split')
    with open(root / f'{key}_meta_data.csv', 'w', newline='') as file:
        rows = [(f'clip_{split}', split, 'cat')[: len(columns)] for split in ('train', 'test')]
        csv.writer(file).writerows([columns, *rows])
    for uid, split, *category in rows:
        data = root / f'{key}_data'
        frames = data.joinpath('visual_frames', *([split, *category] if single else []), uid)
        masks = data.joinpath('gt_masks', split, *category, uid)
        sound = data.joinpath('audio_wav', split, *category, f'{uid}.wav')
        for folder in (frames, masks, sound.parent):
            folder.mkdir(parents=True)
        for i in range(1, 6):
            Image.new('RGB', (12, 8), (i, i, i)).save(frames / f'{uid}{"" if single else ".mp4"}_{i}.png')
            if i == 1 or not (single and split == 'train'):
                mask = Image.new('L', (12, 8))
                mask.paste(255, (i, 0, 12, 8))
                mask.save(masks / f'{uid}_{i}.png')
        soundfile.write(sound, np.zeros(16000), 16000)
    return root


@pytest.mark.parametrize('key', ['s4', 'ms3'])
@pytest.mark.parametrize('split', ['train', 'test'])
@pytest.mark.parametrize('below', [False, True])
def test_object_layout(tmp_path, key, split, below):
    root = write_object(tmp_path / {'s4': 'Single-source', 'ms3': 'Multi-sources'}[key], key)
    (sample,) = AVSBenchDataset(tmp_path if below else root, split, key, pipeline=PIPELINE)
    assert sample['clip_id'] == f'clip_{split}' and sample['audio_path'].endswith(f'clip_{split}.wav')
    assert [int(frame[0, 0, 0]) for frame in sample['imgs']] == [1, 2, 3, 4, 5]
    areas = [int((labels == 1).sum()) for labels in sample['gt_seg_maps']]
    first_only = key == 's4' and split == 'train'
    assert areas == ([88, 0, 0, 0, 0] if first_only else [88, 80, 72, 64, 56])
    assert sample['annotated'].tolist() == [True] + [not first_only] * 4


def test_wrong_layouts_are_named(tmp_path, semantic):
    root = write_object(tmp_path / 'here', 's4')
    with pytest.raises(FileNotFoundError, match=r'in no known layout of avss: .*; it has s4_data, s4_meta_data.csv'):
        AVSBenchDataset(root, 'train', 'avss')
    with pytest.raises(FileNotFoundError, match=r'or ms3_meta_data.csv as AVSBench-object has it'):
        AVSBenchDataset(root, 'train', 'ms3')
    with pytest.raises(ValueError, match="task must be one of s4, ms3, avss, got 'S4'"):
        AVSBenchDataset(root, 'train', 'S4')
    with pytest.raises(ValueError, match="has no clip of v1s in split 'val'"):
        AVSBenchDataset(root, 'val', 's4')
    (root / 's4_data/gt_masks/test/cat/clip_test/clip_test_3.png').unlink()
    with pytest.raises(ValueError, match=r'5 frames, masks of \[1, 2, 4, 5\], wanted of \[1, 2, 3, 4, 5\]'):
        AVSBenchDataset(root, 'test', 's4')
    lines = [',name,split,category', '0,clip_train,train,cat', '1,clip_train,train,cat']
    (root / 's4_meta_data.csv').write_text('\n'.join(lines[:2]))
    assert len(AVSBenchDataset(root, 'train', 's4')) == 1  # a table with an index
    (root / 's4_meta_data.csv').write_text('\n'.join(lines))
    with pytest.raises(ValueError, match='s4_meta_data.csv, line 3: the clip clip_train is there twice'):
        AVSBenchDataset(root, 'train', 's4')
    (root / 's4_meta_data.csv').write_text('name,split\n../x,test\n')
    with pytest.raises(ValueError, match=r"s4_meta_data.csv, line 2: no name and split of a clip: '../x', 'test'"):
        AVSBenchDataset(root, 'test', 's4')
