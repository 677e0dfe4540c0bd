# SPDX-License-Identifier: Apache-2.0
"""CLAP compares sounds with names: unit embeddings, each text once, nothing depends on the batch."""

import pytest
import tiny_foundation
import torch

from ovavss_mm.datasets.vocabulary import Vocabulary
from ovavss_mm.models import SoundNamer


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory) -> str:
    return tiny_foundation.roberta_tokenizer(tmp_path_factory.mktemp('roberta'))


def make(tokenizer: str, **keys) -> SoundNamer:
    torch.manual_seed(0)
    return SoundNamer(tiny_foundation.CLAP, tokenizer=tokenizer, **keys)


@pytest.fixture(scope='module')
def namer(tokenizer) -> SoundNamer:
    return make(tokenizer)


@pytest.fixture(scope='module')
def audio() -> torch.Tensor:
    return 20 * torch.randn(5, *tiny_foundation.CLAP_SHAPE, generator=torch.Generator().manual_seed(1)) - 40


def test_scores_are_cosines_of_the_library_s_embeddings(namer, audio):
    names = ['red star', 'cat']
    scores = namer.scores(audio, names)
    tokens = namer.tokenizer(names, padding='max_length', max_length=77, return_tensors='pt')
    with torch.no_grad():
        expected = namer.model(input_features=audio, **tokens)
    torch.testing.assert_close(scores, expected.audio_embeds @ expected.text_embeds.T, atol=1e-5, rtol=0)
    torch.testing.assert_close(namer.probabilities(audio, names), expected.logits_per_audio.softmax(-1))
    assert torch.equal(namer.probabilities(audio, names, 3.0), (3 * scores).softmax(-1))
    for embeddings in (namer(audio), namer.text_embeddings(names)):
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(embeddings)))


def test_batched_is_single_whatever_the_chunk(tokenizer, namer, audio):
    torch.testing.assert_close(torch.cat([namer(row) for row in audio.split(1)]), namer(audio))
    torch.testing.assert_close(make(tokenizer, chunk_size=2)(audio), namer(audio))
    names = ['a', 'a longer name than the other']
    singles = torch.cat([make(tokenizer).text_embeddings([name]) for name in names])
    torch.testing.assert_close(namer.text_embeddings(names), singles, atol=1e-5, rtol=0)


def test_a_hyphen_is_read_as_a_space(namer, tokenizer):
    assert torch.equal(*(namer.text_embeddings([name]) for name in ('emergency-car', 'emergency car')))
    as_it_is = make(tokenizer, name_map={})
    assert as_it_is.spoken('emergency-car') == 'emergency-car'
    assert not torch.allclose(as_it_is.text_embeddings(['emergency-car']), namer.text_embeddings(['emergency-car']))


def test_synonyms_are_averaged_and_templates_are_filled_in(namer):
    both = namer.text_embeddings(Vocabulary(['cat'], synonyms=dict(cat=['kitten'])))
    mean = namer.text_embeddings(['cat', 'kitten']).mean(0, keepdim=True)
    torch.testing.assert_close(both, torch.nn.functional.normalize(mean))
    filled = namer.text_embeddings(Vocabulary(['cat'], templates=['the sound of a {}']))
    torch.testing.assert_close(filled, namer.text_embeddings(['the sound of a cat']))


def test_texts_are_embedded_once_until_the_weights_change(tokenizer):
    namer, read = make(tokenizer), []
    namer.model.text_model.register_forward_pre_hook(lambda *_: read.append(1))
    first = namer.text_embeddings(['cat', 'dog'])
    assert torch.equal(namer.text_embeddings(['dog', 'cat']), first.flip(0)) and len(read) == 1
    key = 'model.text_projection.linear1.weight'
    namer.load_state_dict({key: torch.randn_like(namer.state_dict()[key])}, strict=False)
    assert not torch.allclose(namer.text_embeddings(['cat', 'dog']), first) and len(read) == 2


def test_names_longer_than_clap_reads_are_told_and_their_ends_have_no_effect(namer):
    fits, long = 'b' * 75, 'b' * 76  # with the start and the end of a text 77 and 78
    assert namer.truncated_words(Vocabulary([fits, long])) == [long]
    embeddings = namer.text_embeddings([fits, long, 'b' * 400])
    assert torch.equal(embeddings[1], embeddings[2])
    torch.testing.assert_close(embeddings[0], embeddings[1], atol=1e-5, rtol=0)


def test_five_hundred_names_and_silence(namer, audio):
    scores = namer.scores(torch.full_like(audio, -100), [f'name {i}' for i in range(500)])
    assert scores.shape == (5, 500) and scores.isfinite().all()


def test_bfloat16_is_near(tokenizer, namer, audio):
    half = make(tokenizer, dtype='bfloat16').scores(audio, ['cat', 'dog'])
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, namer.scores(audio, ['cat', 'dog']), atol=0.1, rtol=0)


def test_a_bad_chunk_is_named():
    with pytest.raises(ValueError, match='chunk_size must be at least 1, got 0'):
        SoundNamer(tiny_foundation.CLAP, chunk_size=0)
