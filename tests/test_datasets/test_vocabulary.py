# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json

import pytest

from ovavss_mm.datasets import Vocabulary, voc_palette
from ovavss_mm.datasets.vocabulary import (
    PACKAGED_BASE_NAMES,
    PACKAGED_NAMES,
    read_label2idx,
    read_names,
)

TABLE = {'background': 0, 'bird': 1, 'cat': 2, 'dog': 3}


def test_labels_follow_the_table():
    shuffled = dict(sorted(TABLE.items(), reverse=True))
    vocabulary = Vocabulary.from_label2idx(shuffled, ['dog', 'bird'])
    assert vocabulary.names == ('bird', 'cat', 'dog')
    assert vocabulary.base == ('bird', 'dog')
    assert vocabulary.novel == ('cat',)
    assert vocabulary.palette == voc_palette(4)
    assert all(vocabulary.classes[label] == name for name, label in TABLE.items())
    assert len(vocabulary) == 3


def test_explicit_novel_names_may_leave_some_out():
    vocabulary = Vocabulary.create(['c', 'a', 'b'], base=['a'], novel=['b'])
    assert vocabulary.novel == ('b',)


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Vocabulary.create(['a'], []).names = ()


@pytest.mark.parametrize(
    ('names', 'base', 'novel', 'message'),
    [
        ([], [], None, 'vocabulary is empty'),
        (['a', 'b'], ['a'], ['a'], "both base and novel: 'a'"),
        (['a', 'b', 'a'], [], None, "given twice: 'a'"),
        (['a', 'b'], ['b', 'b'], None, "base names given twice: 'b'"),
        (['a'], ['a', 'x', 'y'], None, "not in the vocabulary: 'x', 'y'"),
        (['a'], [], ['z'], "novel names that are not in the vocabulary: 'z'"),
        (['a', 'background'], [], None, 'background'),
        (['a', ' '], [], None, 'non-empty'),
    ],
)
def test_wrong_names(names, base, novel, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.create(names, base, novel)


@pytest.mark.parametrize(
    ('table', 'message'),
    [
        ({'background': 0}, 'empty'),
        ({'bird': 1}, "'background' must have label 0"),
        ({'background': 1, 'bird': 0}, "'background' must have label 0"),
        ({'background': 0, 'bird': 2}, "'bird' has 2 where 1 was expected"),
        ({'background': 0, 'bird': 1, 'cat': 1}, "'cat' has 1 where 2 was expected"),
        ({'background': 0, 'bird': -1}, "'bird' has -1"),
        ({'background': 0, 'bird': '1'}, "must be integers.*'bird': '1'"),
        ({'background': 0, 'bird': True}, 'must be integers'),
        (['bird'], 'got a list'),
    ],
)
def test_wrong_table(table, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.from_label2idx(table, [])


def test_files(tmp_path):
    label_file, base_file = tmp_path / 'label2idx.json', tmp_path / 'base.txt'
    label_file.write_text(json.dumps(TABLE))
    base_file.write_text('dog\n\n bird \n')
    vocabulary = Vocabulary.from_files(str(label_file), str(base_file))
    assert vocabulary == Vocabulary.from_label2idx(TABLE, ['bird', 'dog'])
    base_file.write_text('dog\nhen\n')
    with pytest.raises(ValueError, match=r"label2idx\.json.*base\.txt.*'hen'"):
        Vocabulary.from_files(str(label_file), str(base_file))
    with pytest.raises(FileNotFoundError, match='gone.txt'):
        Vocabulary.from_files(str(label_file), str(tmp_path / 'gone.txt'))


def test_all_names_base(tmp_path):
    label_file = tmp_path / 'label2idx.json'
    label_file.write_text(json.dumps(TABLE))
    vocabulary = Vocabulary.from_files(str(label_file), 'all')
    assert vocabulary.base == vocabulary.names == ('bird', 'cat', 'dog')
    assert vocabulary.novel == ()


def test_malformed_json(tmp_path):
    path = tmp_path / 'label2idx.json'
    path.write_text('{"background": 0,\n "bird": }')
    with pytest.raises(ValueError, match=r'label2idx\.json, line 2'):
        read_label2idx(str(path))
    path.write_text('{"background": 0, "bird": 1, "bird": 2}')
    with pytest.raises(ValueError, match="given twice: 'bird'"):
        read_label2idx(str(path))


def test_packaged_base_names():
    names = read_names(str(PACKAGED_BASE_NAMES['avsbench_ov']))
    assert len(names) == len(set(names)) == 40
    assert list(names) == sorted(names)
    assert not {'violin', 'wolf', 'tuba', 'emergency-car'} & set(names)
    assert {'airplane', 'horse', 'man', 'woman', 'vacuum-cleaner'} <= set(names)


def test_packaged_names():
    names = read_names(str(PACKAGED_NAMES))
    assert len(names) == len(set(names)) == 70
    assert list(names) == sorted(names)
    base = read_names(str(PACKAGED_BASE_NAMES['avsbench_ov']))
    novel = Vocabulary.create(names, base).novel
    assert len(novel) == 30
    assert novel[:3] == ('accordion', 'axe', 'bassoon')
    assert novel[-2:] == ('violin', 'wolf')
