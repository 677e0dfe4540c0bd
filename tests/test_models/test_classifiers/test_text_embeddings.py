# SPDX-License-Identifier: Apache-2.0
import open_clip
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ovavss_mm.models.classifiers.text_embeddings import embed_names, encode_prompts

TEMPLATES = ['a {}.', 'a {} on a {}', 'the {}']


class Clip(nn.Module):
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
def clip():
    return Clip()


def test_a_name_is_the_mean_of_its_prompts(clip):
    embeddings = embed_names(clip, tokenizer, ['dog', 'cat'], TEMPLATES)
    assert embeddings.shape == (2, 6) and not embeddings.requires_grad
    for row, name in zip(embeddings, ('dog', 'cat'), strict=True):
        prompts = [f'a {name}.', f'a {name} on a {name}', f'the {name}']
        each = [F.normalize(clip.encode_text(tokenizer([p]))[0], dim=0) for p in prompts]
        mean = sum(each) / 3
        assert torch.allclose(row, mean / mean.norm(), atol=1e-6)


def test_one_name_will_do(clip):
    embeddings = embed_names(clip, tokenizer, ['dog'], ['a {}'])
    assert embeddings.shape == (1, 6) and embeddings.norm().item() == pytest.approx(1, abs=1e-5)


def test_an_embedding_does_not_depend_on_other_names(clip):
    names = ['dog', 'cat', 'emergency-car', 'bird']
    embeddings = embed_names(clip, tokenizer, names, TEMPLATES)
    order = [2, 0, 3, 1]
    shuffled = embed_names(clip, tokenizer, [names[i] for i in order], TEMPLATES)
    assert torch.allclose(shuffled, embeddings[order], atol=1e-6)
    assert torch.allclose(
        embed_names(clip, tokenizer, ['cat'], TEMPLATES)[0], embeddings[1], atol=1e-6
    )


@pytest.mark.parametrize('chunk_size', [1, 4, 100])
def test_chunks_bound_memory_and_change_nothing(clip, chunk_size):
    names = ['dog', 'cat', 'bird']
    expected = embed_names(clip, tokenizer, names, TEMPLATES)
    clip.sizes.clear()
    embeddings = embed_names(clip, tokenizer, names, TEMPLATES, chunk_size)
    assert torch.allclose(embeddings, expected, atol=1e-6)
    assert max(clip.sizes) <= chunk_size and sum(clip.sizes) == 9


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


def test_names_may_hold_braces(clip):
    seen = []

    def spy(texts):
        seen.extend(texts)
        return tokenizer(texts)

    embed_names(clip, spy, ['{0}', 'a{b}'], ['the {}!'])
    assert seen == ['the {0}!', 'the a{b}!']


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        ([], 'vocabulary is empty'),
        (['dog', ''], "not blank, got '' at 1"),
        ([' \t', 'dog'], r"not blank, got ' \\t' at 0"),
        (['dog', None], 'not blank, got None at 1'),
        (['dog', 'cat', 'dog', 'cat', 'bird'], 'repeated: cat, dog'),
    ],
)
def test_bad_names_are_named(clip, names, message):
    with pytest.raises(ValueError, match=message):
        embed_names(clip, tokenizer, names, TEMPLATES)
