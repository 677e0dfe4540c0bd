# SPDX-License-Identifier: Apache-2.0
"""Indices; the rule itself is tested with the data set."""

import random

import archive
import pytest

from ovavss_mm.datasets import AVSBenchOVDataset, IndexedClip, read_index, write_index

CLIPS = [
    IndexedClip('v2', 'b', 10, ('dog', 'guitar')),
    IndexedClip('v1s', 'with space', 5, ('h orse',)),
    IndexedClip('v1s', '-a_0_5000', 5, ('bird',)),
]
HEAD = '# split train: 1 clips, 5 frames\n'


def test_round_trip_sorted_and_readable(tmp_path):
    path = tmp_path / 'new' / 'train.txt'
    write_index(path, 'train', CLIPS)
    assert path.read_text() == (
        '# split train: 3 clips, 20 frames\n'
        '# clip\tframes\tnames\n'
        'v1s/-a_0_5000\t5\tbird\n'
        'v1s/with space\t5\th orse\n'
        'v2/b\t10\tdog_guitar\n'
    )
    assert read_index(str(path), 'train') == sorted(CLIPS)
    assert [p.name for p in path.parent.iterdir()] == ['train.txt']


def test_order_does_not_matter(tmp_path):
    for name in ('a', 'b'):
        random.shuffle(CLIPS)
        write_index(tmp_path / name, 'val', CLIPS)
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'line 1: an index begins'),
        ('v2/b\t10\tdog\n', 'line 1: an index begins'),
        (HEAD + 'v2/b 10 dog\n', 'line 2: expected subset/uid'),
        (HEAD + 'v2/b\tten\tdog\n', 'line 2: expected'),
        (HEAD + 'v2/b\t0\tdog\n', 'line 2: expected'),
        (HEAD + 'v9/b\t5\tdog\n', 'line 2: expected'),
        (HEAD + 'v2/../b\t5\tdog\n', 'line 2: expected'),
        (HEAD + 'v2/b\t5\t\n', 'line 2: expected'),
        (HEAD + '\nv2/b\t5\tdog\nv2/b\t5\tcat\n', 'line 4: clip v2/b is there twice'),
    ],
)
def test_malformed(tmp_path, text, message):
    path = tmp_path / 'index.txt'
    path.write_text(text)
    with pytest.raises(ValueError, match=f'index.txt, {message}'):
        read_index(str(path))


def test_other_split_and_no_file(tmp_path):
    write_index(tmp_path / 'val.txt', 'val', CLIPS)
    with pytest.raises(ValueError, match=r"val\.txt is the index of split 'val', 'test' was asked"):
        read_index(str(tmp_path / 'val.txt'), 'test')
    with pytest.raises(FileNotFoundError, match=r'gone\.txt.*avsbench_ov\.py makes it'):
        read_index(str(tmp_path / 'gone.txt'))


# --- the data set takes its clips from an index
def use(root, path, split='train', **kwargs) -> list[str]:
    kwargs = {'base_names': 'base_names.txt', 'index_file': str(path)} | kwargs
    dataset = AVSBenchOVDataset(str(root), split, **kwargs)
    return [dataset.get_data_info(i)['clip_id'] for i in range(len(dataset))]


@pytest.fixture
def index(tmp_path):
    """An index of two of the three training clips."""
    clips = [IndexedClip('v2', 'dog_guitar', 10, ('dog', 'guitar')), IndexedClip('v1s', 'bird_0', 5, ('bird',))]
    write_index(tmp_path / 'train.txt', 'train', clips)
    return tmp_path / 'train.txt'


def test_index_replaces_the_rule(root, index):
    assert use(root, index) == ['bird_0', 'dog_guitar']


def test_index_needs_no_metadata(index, tmp_path):
    own = archive.write_archive(tmp_path / 'own', archive.CLIPS[:2])
    (own / 'metadata.csv').unlink()
    assert use(own, index) == ['bird_0', 'dog_guitar']


def test_training_index_of_other_base_names(root, index):
    with pytest.raises(ValueError, match=r'other base names: 1 of 2 .* v2/dog_guitar \(dog, guit'):
        use(root, index, base_names=['bird', 'dog'])
    assert use(root, index, base_names='all') == ['bird_0', 'dog_guitar']


def test_index_of_a_subset_that_is_left_out(root, tmp_path):
    write_index(tmp_path / 'val.txt', 'val', [IndexedClip('v1m', 'val_two', 5, ('cat', 'dog'))])
    with pytest.raises(ValueError, match=r'val\.txt has 1 of 1 clips of a subset .* v1m/val_two: subsets are v1s, v2'):
        use(root, tmp_path / 'val.txt', 'val')


def test_val_index_may_have_any_names(root, tmp_path):
    write_index(tmp_path / 'val.txt', 'val', [IndexedClip('v1s', 'val_cat', 5, ('cat',))])
    assert use(root, tmp_path / 'val.txt', 'val') == ['val_cat']


def test_frames_must_be_those_of_the_index(root, tmp_path):
    write_index(tmp_path / 'train.txt', 'train', [IndexedClip('v1s', 'bird_0', 4, ('bird',))])
    with pytest.raises(ValueError, match='bird_0: 5 frames, 4 in the index'):
        use(root, tmp_path / 'train.txt')


def test_empty_index(root, tmp_path):
    write_index(tmp_path / 'train.txt', 'train', [])
    with pytest.raises(ValueError, match=r'index .*train\.txt has no clip'):
        use(root, tmp_path / 'train.txt')
