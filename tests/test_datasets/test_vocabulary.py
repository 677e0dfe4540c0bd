# SPDX-License-Identifier: Apache-2.0
import copy
import json
import pickle

import pytest

from ovavss_mm.datasets import Vocabulary, voc_palette
from ovavss_mm.datasets.vocabulary import (
    PACKAGED_BASE_NAMES,
    PACKAGED_NAMES,
    read_label2idx,
    read_names,
    resolve_templates,
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


def test_is_a_tuple_of_names_with_synonyms_and_templates():
    vocabulary = Vocabulary(
        [' dog', 'red car '], synonyms={'dog': ['puppy', ' hound'], 'red car': []}, templates=['a {}']
    )
    assert vocabulary == ('dog', 'red car') and type(vocabulary.names) is tuple
    assert vocabulary.words == ('dog', 'puppy', 'hound', 'red car')
    assert vocabulary.base == vocabulary.novel == ()
    for again in (pickle.loads(pickle.dumps(vocabulary)), copy.deepcopy(vocabulary)):
        assert again == vocabulary and again.synonyms == vocabulary.synonyms
        assert again.templates == ('a {}',)


@pytest.mark.parametrize(
    ('synonyms', 'message'),
    [
        ({'cat': ['kitten']}, "'cat', which is none"),
        ({'dog': 'puppy'}, 'must be a list'),
        ({'dog': ['pup', ' ']}, 'not blank'),
        ({'dog': ['puppy']}, "for 'puppy' and for 'dog'"),
        ({'dog': ['dog']}, 'given twice'),
    ],
    ids=['unknown', 'string', 'blank', 'taken', 'itself'],
)
def test_wrong_synonyms(synonyms, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(['dog', 'puppy'], synonyms=synonyms)


def test_templates():
    assert resolve_templates(['a {}']) == ('a {}',)
    assert len(Vocabulary(['dog'], templates='vild').templates) == 14
    for bad in ('viild', [], ['a dog'], ['a {}', 3], ['{} {}'], ['a {b}{}']):
        with pytest.raises(ValueError, match='template'):
            resolve_templates(bad)


def test_explicit_novel_names_may_leave_some_out():
    vocabulary = Vocabulary(['c', 'a', 'b'], base=['a'], novel=['b'])
    assert vocabulary.novel == ('b',)


@pytest.mark.parametrize(
    ('names', 'base', 'novel', 'message'),
    [
        ([], [], None, 'got 0'),
        (['a'] * 40000, [], None, 'got 40000'),
        ('dog', [], None, "got 'dog'"),
        (['a', 'b'], ['a'], ['a'], "both base and novel: 'a'"),
        (['a', 'b', 'a'], [], None, "'a' is given twice"),
        (['a', 'A'], [], None, "'A' is given twice: for 'a'"),
        (['red  car', 'red car'], [], None, 'given twice'),
        (['a', 'b'], ['b', 'b'], None, "base name 'b' is given twice"),
        (['a'], ['a', 'x', 'y'], None, "not in the vocabulary: 'x', 'y'"),
        (['a'], [], ['z'], "novel names that are not in the vocabulary: 'z'"),
        (['a', 'background'], [], None, 'always has label 0'),
        (['a', ' '], [], None, "name 1 must be text that is not blank, got ' '"),
        (['a', 3], [], None, 'not blank, got 3'),
        (['a', 'x' * 501], [], None, 'has 501'),
        (['a', 'x\ny'], [], None, 'control characters'),
    ],
)
def test_wrong_names(names, base, novel, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(names, base, novel)


@pytest.mark.parametrize(
    ('table', 'message'),
    [
        ({'background': 0}, 'got 0'),
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
    with pytest.raises(ValueError, match=r"label2idx\.json: 'bird' is given twice"):
        read_label2idx(str(path))
    path.write_text('{"background": ' + '1' * 5000 + '}')
    with pytest.raises(ValueError, match=r'label2idx\.json: '):
        read_label2idx(str(path))


def test_files_of_names(tmp_path):
    """A name a line may have a comma; one line of names, or JSON of another kind, is refused."""
    path = tmp_path / 'names.txt'
    for text in ('\ufeffMale speech, man speaking\n\n dog \n', '["Male speech, man speaking", "dog"]'):
        path.write_text(text, encoding='utf-8')
        assert read_names(str(path)) == ('Male speech, man speaking', 'dog')
    for text, message in (
        ('dog, cat\n', 'one line with commas'),
        ('犬、猫\n', 'one line with commas'),
        ('{"dog": 1}', 'a JSON list'),
        ('[1]', 'a JSON list'),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_names(str(path))


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
    novel = Vocabulary(names, base).novel
    assert len(novel) == 30
    assert novel[:3] == ('accordion', 'axe', 'bassoon')
    assert novel[-2:] == ('violin', 'wolf')
