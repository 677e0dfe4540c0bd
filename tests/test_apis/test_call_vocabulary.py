# SPDX-License-Identifier: Apache-2.0
"""Names given at call time: checked, and embedded once."""

import pytest
import tiny_model
import torch
from mmseg.registry import MODELS

from ovavss_mm.apis.vocabulary import (
    MAX_LETTERS,
    TextBank,
    Vocabulary,
    resolve_templates,
    warn_of_long,
)

TEMPLATES = ('a {}.', 'the {}')


@pytest.fixture(scope='module')
def classifier():
    torch.manual_seed(0)
    return tiny_model.draw_weights(MODELS.build(tiny_model.CLASSIFIER)).eval()


def test_names_are_trimmed_and_synonyms_kept():
    vocabulary = Vocabulary([' dog', 'red car '], {'dog': ['puppy', ' hound'], 'red car': []})
    assert vocabulary.names == ('dog', 'red car')
    assert vocabulary.words == ('dog', 'puppy', 'hound', 'red car')


@pytest.mark.parametrize(
    ('names', 'synonyms', 'message'),
    [
        ([], None, 'got 0'),
        (['a'] * 40000, None, 'got 40000'),
        ('dog', None, "got 'dog'"),
        (['dog', 3], None, r'got 3 as classes\[1\]'),
        (['dog', ''], None, r"got '' as classes\[1\]"),
        (['x' * (MAX_LETTERS + 1)], None, '501'),
        (['dog', 'cat', 'dog'], None, "'dog' is given twice"),
        (['dog', 'DOG'], None, "'DOG' is given twice"),
        (['red  car', 'red car'], None, 'given twice'),
        (['dog'], {'cat': ['kitten']}, "'cat', which is none"),
        (['dog'], {'dog': 'puppy'}, 'must be a list'),
        (['dog'], {'dog': ['puppy', ' ']}, 'not blank'),
        (['dog', 'puppy'], {'dog': ['puppy']}, "for 'puppy' and for 'dog'"),
        (['dog'], {'dog': ['dog']}, 'given twice'),
    ],
    ids=[
        *('none', 'many', 'text', 'number', 'blank', 'long', 'twice', 'case', 'spaces'),
        *('unknown', 'string', 'blank-synonym', 'taken', 'itself'),
    ],
)
def test_bad_vocabularies(names, synonyms, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(names, synonyms)


def test_ten_thousand_names_are_checked_at_once():
    names = [f'thing {i}' for i in range(10_000)]
    assert len(Vocabulary(names).names) == 10_000


def test_templates():
    assert resolve_templates(['a {}']) == ('a {}',)
    assert len(resolve_templates('vild')) == 14
    for bad in ('viild', [], ['a dog'], ['a {}', 3]):
        with pytest.raises(ValueError, match='template'):
            resolve_templates(bad)


def test_a_word_is_embedded_once_a_set_of_templates(classifier):
    embedded = []
    classifier.clip.ln_final.register_forward_hook(lambda *args: embedded.append(len(args[-1])))
    bank = TextBank(classifier)
    first = bank.table(Vocabulary(['dog', 'cat']), TEMPLATES)
    assert sum(embedded) == 2 * 2
    second = bank.table(Vocabulary(['bird', 'cat'], {'bird': ['dog']}), TEMPLATES)
    assert sum(embedded) == 3 * 2  # 'bird' only
    assert torch.equal(second[1], first[1])
    bank.table(Vocabulary(['cat']), TEMPLATES[:1])
    assert sum(embedded) == 3 * 2 + 1
    torch.testing.assert_close(second.norm(dim=1), torch.ones(2))


def test_same_as_the_classifiers_own(classifier):
    own = classifier.text_embeddings(['dog', 'cat'])
    table = TextBank(classifier).table(Vocabulary(['dog', 'cat']), classifier.templates)
    torch.testing.assert_close(table, own)
    assert classifier.templates == ['a {}.', 'the {}']  # as before


def test_memory_of_words_is_bounded(classifier):
    bank = TextBank(classifier, max_words=3)
    for names in (['a', 'b'], ['c', 'd'], ['a', 'c']):
        assert bank.table(Vocabulary(names), TEMPLATES).shape == (2, 16)
        assert len(bank._known) <= 3


def test_a_table_is_used_for_a_block(classifier):
    table = torch.randn(1, 16)
    with classifier.using(['dog'], table):
        assert classifier.text_embeddings(('dog',)) is not None
        assert torch.equal(classifier.text_embeddings(['dog']), table)
        assert not torch.equal(classifier.text_embeddings(['cat']), table)
    assert not torch.equal(classifier.text_embeddings(['dog']), table)


def test_names_beyond_what_clip_reads(classifier):
    """They work, and it is said that their ends do not count."""
    vocabulary = Vocabulary(['dog', 'very ' * 60 + 'long dog'])
    table = TextBank(classifier).table(vocabulary, TEMPLATES)
    assert torch.isfinite(table).all()
    with pytest.warns(UserWarning, match='1 names are longer than CLIP reads'):
        assert warn_of_long(classifier, vocabulary)
    assert warn_of_long(classifier, Vocabulary(['dog'])) == []
