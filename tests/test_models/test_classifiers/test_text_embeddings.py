# SPDX-License-Identifier: Apache-2.0
import open_clip
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ovavss_mm.datasets import Vocabulary
from ovavss_mm.models.classifiers import text_embeddings
from ovavss_mm.models.classifiers.text_embeddings import TextEmbeddings, embed_words, encode_prompts

TEMPLATES = ['a {}.', 'a {} on a {}', 'the {}']


class Model(nn.Module):
    """A text encoder: the number of each letter times a drawn matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(128, 6))
        self.sizes = []

    def encode_text(self, tokens):
        self.sizes.append(len(tokens))
        return tokens @ self.matrix


def tokenizer(texts: list[str]) -> torch.Tensor:
    counts = torch.zeros(len(texts), 128)
    for row, text in zip(counts, texts, strict=True):
        for letter in text:
            row[ord(letter)] += 1
    return counts


@pytest.fixture
def model():
    return Model()


def test_a_word_is_the_mean_of_its_prompts(model):
    embeddings = embed_words(model, tokenizer, ['dog', 'cat'], TEMPLATES)
    assert embeddings.shape == (2, 6) and not embeddings.requires_grad
    for row, name in zip(embeddings, ('dog', 'cat'), strict=True):
        prompts = [f'a {name}.', f'a {name} on a {name}', f'the {name}']
        each = [F.normalize(model.encode_text(tokenizer([p]))[0], dim=0) for p in prompts]
        mean = sum(each) / 3
        assert torch.allclose(row, mean / mean.norm(), atol=1e-6)


def test_an_embedding_does_not_depend_on_other_words(model):
    names = ['dog', 'cat', 'emergency-car', 'bird']
    embeddings = embed_words(model, tokenizer, names, TEMPLATES)
    order = [2, 0, 3, 1]
    shuffled = embed_words(model, tokenizer, [names[i] for i in order], TEMPLATES)
    assert torch.allclose(shuffled, embeddings[order], atol=1e-6)


@pytest.mark.parametrize('chunk_size', [1, 4, 100])
def test_chunks_bound_memory_and_change_nothing(model, chunk_size):
    names = ['dog', 'cat', 'bird']
    expected = embed_words(model, tokenizer, names, TEMPLATES)
    model.sizes.clear()
    embeddings = embed_words(model, tokenizer, names, TEMPLATES, chunk_size)
    assert torch.allclose(embeddings, expected, atol=1e-6)
    assert max(model.sizes) <= chunk_size and sum(model.sizes) == 9


def test_prompts_are_read_to_their_ends_only():
    """The same without padding as with it, for short prompts and one that fills CLIP's context."""
    torch.manual_seed(0)
    text = dict(context_length=12, vocab_size=50, width=16, heads=2, layers=2)
    clip = open_clip.CLIP(8, dict(image_size=16, patch_size=8, width=64, layers=1), text).eval()
    tokens = torch.zeros(3, 12, dtype=torch.long)
    for row, length in zip(tokens, (3, 5, 12), strict=True):
        row[:length] = torch.randint(1, 49, (length,))
        row[length - 1] = 49  # the end
    read = []
    clip.transformer.register_forward_hook(lambda *args: read.append(args[-1].shape[1]))
    for rows, length in ((tokens[:1], 3), (tokens[:2], 5), (tokens, 12)):
        expected = clip.encode_text(rows)
        assert torch.allclose(encode_prompts(clip, rows), expected, atol=1e-5)
        assert read == [12, length]
        read.clear()
    clip.text_pool_type = 'last'  # reads the padding, so all must go in
    assert torch.equal(encode_prompts(clip, tokens[:1]), clip.encode_text(tokens[:1]))


def test_words_may_hold_braces(model):
    seen = []

    def spy(texts):
        seen.extend(texts)
        return tokenizer(texts)

    embed_words(model, spy, ['{0}', 'a{b}'], ['the {}!'])
    assert seen == ['the {0}!', 'the a{b}!']


def test_a_word_is_embedded_once_per_set_of_templates(model):
    bank = TextEmbeddings(model, tokenizer)
    first = bank(Vocabulary(['dog', 'cat']), TEMPLATES)
    assert sum(model.sizes) == 2 * 3
    second = bank(Vocabulary(['bird', 'cat'], synonyms={'bird': ['dog']}), TEMPLATES)
    assert sum(model.sizes) == 3 * 3  # 'bird' only
    assert torch.equal(second[1], first[1])
    bank(Vocabulary(['cat']), TEMPLATES[:1])
    assert sum(model.sizes) == 3 * 3 + 1


def test_a_name_with_synonyms_is_the_mean_of_all(model):
    bank = TextEmbeddings(model, tokenizer)
    each = bank(Vocabulary(['dog', 'puppy', 'hound']), TEMPLATES)
    (together,) = bank(Vocabulary(['dog'], synonyms={'dog': ['puppy', 'hound']}), TEMPLATES)
    assert torch.allclose(together, F.normalize(each.mean(0), dim=0), atol=1e-6)


def test_memory_of_words_is_bounded(model, monkeypatch):
    monkeypatch.setattr(text_embeddings, 'MAX_WORDS', 3)
    bank = TextEmbeddings(model, tokenizer)
    for names in (['a', 'b'], ['c', 'd'], ['a', 'c']):
        assert bank(Vocabulary(names), TEMPLATES).shape == (2, 6)
        assert len(bank) <= 3
