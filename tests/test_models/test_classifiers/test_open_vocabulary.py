# SPDX-License-Identifier: Apache-2.0
import logging

import open_clip
import pytest
import torch
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from safetensors.torch import save_file
from tiny_model import CLASSIFIER, NAMES, draw_weights

from ovavss_mm.datasets import Vocabulary
from ovavss_mm.models import OpenVocabularyClassifier


class WholeFrame(OpenVocabularyClassifier):
    """Embeds frames as they are, for every query that has a mask."""

    def embed_masks(self, frames, queries, pad_shape):
        """Embed the frame of each mask."""
        valid = (queries.masks > 0).flatten(2).any(-1)
        images = frames[valid.nonzero(as_tuple=True)[1]].float()
        return self.encode(images), valid


def make(**kwargs) -> OpenVocabularyClassifier:
    """A classifier with drawn weights."""
    torch.manual_seed(0)
    cfg = {k: v for k, v in CLASSIFIER.items() if k != 'type'} | kwargs
    return WholeFrame(**cfg)


@pytest.fixture
def clip():
    """Frames of CLIP's size and three queries, the last one without a mask."""
    frames = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    masks = torch.ones(3, 2, 4, 4)
    masks[1, 0], masks[2] = -1, -1
    return frames, InstanceData(scores=torch.tensor([0.9, 0.8, 0.7]), masks=masks)


# ------------------------------------------------------------------ text
def test_a_vocabulary_is_embedded_once():
    classifier = make()
    encoded = []
    classifier.clip_model.ln_final.register_forward_hook(lambda *a: encoded.append(len(a[-1])))
    first = classifier.text_embeddings(NAMES)
    assert torch.equal(first, classifier.text_embeddings(list(NAMES)))
    assert torch.equal(first[:2], classifier.text_embeddings(Vocabulary(NAMES[:2])))
    assert sum(encoded) == len(NAMES) * len(classifier.templates)


def test_templates_of_the_vocabulary_come_first():
    classifier = make()
    own = classifier.text_embeddings(Vocabulary(NAMES, templates=classifier.templates))
    assert torch.equal(own, classifier.text_embeddings(NAMES))
    other = classifier.text_embeddings(Vocabulary(NAMES, templates=['{}']))
    assert not torch.allclose(own, other)
    assert len(make(templates='vild').templates) == 14


def test_embeddings_are_of_the_weights_that_are_there(tmp_path):
    stranger = make()
    torch.nn.init.normal_(stranger.clip_model.text_projection)
    expected = stranger.text_embeddings(NAMES)
    loaded = make()
    loaded.text_embeddings(NAMES)
    loaded.load_state_dict(stranger.state_dict())
    assert torch.equal(loaded.text_embeddings(NAMES), expected)

    save_file(stranger.clip_model.state_dict(), tmp_path / 'clip.safetensors')
    path = str(tmp_path / 'clip.safetensors')
    read = make(init_cfg=dict(type='Pretrained', checkpoint=path))
    read.text_embeddings(NAMES)
    read.init_weights()
    assert torch.equal(read.text_embeddings(NAMES), expected)
    assert not read.state_dict()


@pytest.mark.parametrize('names', [[], ['dog', 'dog'], ['dog', ' '], 'dog'])
def test_bad_vocabularies_are_refused_each_time(names):
    classifier = make()
    for _ in range(2):
        with pytest.raises(ValueError, match='name'):
            classifier.text_embeddings(names)


def test_words_beyond_the_context_length_are_told():
    classifier = make()
    long = 'very ' * 60 + 'long dog'
    assert classifier.truncated_words(Vocabulary(['dog', long])) == [long]
    assert torch.isfinite(classifier.text_embeddings(['dog', long])).all()


# ------------------------------------------------------------------ scores
def test_softmax_of_scaled_cosines(clip):
    frames, queries = clip
    classifier = make(logit_scale=7.0)
    named = classifier(frames, queries, NAMES, (16, 16))
    cosines = classifier.encode(frames.float()) @ classifier.text_embeddings(NAMES).T
    expected = torch.stack([7 * cosines.mean(0), 7 * cosines[1]]).softmax(-1)
    torch.testing.assert_close(named.class_scores, expected)
    assert named.scores.tolist() == queries.scores[:2].tolist()
    assert MODELS.build(CLASSIFIER).logit_scale == 100


def test_siglip_kinds_score_by_sigmoid_with_the_models_own_scale_and_bias(clip):
    frames, queries = clip
    cfg = dict(CLASSIFIER['clip_model'], custom_text=True, init_logit_bias=-2.0, init_logit_scale=1.5)
    cfg['text_cfg'] = dict(cfg['text_cfg'], no_causal_mask=True, pool_type='last')
    classifier = make(clip_model=cfg, score='sigmoid', logit_scale=None)
    named = classifier(frames, queries, NAMES, (16, 16))
    cosines = classifier.encode(frames.float()) @ classifier.text_embeddings(NAMES).T
    scale = torch.tensor(1.5).exp()
    expected = (scale * torch.stack([cosines.mean(0), cosines[1]]) - 2.0).sigmoid()
    torch.testing.assert_close(named.class_scores, expected)


def test_nothing_to_name(clip):
    frames, queries = clip
    for kept in ([], [2]):
        named = make()(frames, queries[torch.tensor(kept, dtype=torch.long)], NAMES, (16, 16))
        assert len(named) == 0 and named.class_scores.shape == (0, 3)


# ------------------------------------------------------------------ the model
def test_a_named_model_has_its_own_preprocessing_and_tokenizer(caplog):
    classifier = make(clip_model='ViT-S-32-alt', tokenizer=None)
    assert classifier.image_size == 224
    assert not logging.getLogger().handlers or not caplog.records
    tokens = classifier.tokenizer(['a dog'])
    assert tokens.shape == (1, classifier.clip_model.context_length)


@pytest.mark.parametrize(
    ('name', 'tag', 'mean'), [('ViT-B-16-SigLIP', 'webli', 0.5), ('ViT-B-16', 'openai', 0.48145466)]
)
def test_preprocessing_is_that_of_the_weights(monkeypatch, name, tag, mean):
    monkeypatch.setattr('ovavss_mm.models.classifiers.open_vocabulary.build_clip', lambda _: torch.nn.Identity())
    classifier = OpenVocabularyClassifier(name, dict(type='Pretrained', checkpoint=tag))
    assert classifier.mean[0].item() == pytest.approx(255 * mean)
    own = OpenVocabularyClassifier(name, preprocess=dict(mean=(0.1, 0.2, 0.3)))
    torch.testing.assert_close(own.mean.flatten(), 255 * torch.tensor([0.1, 0.2, 0.3]))


def test_openai_weights_fit():
    classifier = make()
    numbers = dict.fromkeys(('input_resolution', 'context_length', 'vocab_size'), torch.tensor(1))
    state = {**classifier.clip_model.state_dict(), **numbers}
    assert classifier.convert_state_dict(state).keys() == classifier.state_dict().keys()


def test_a_tag_of_open_clip_names_weights_that_are_downloaded(tmp_path, monkeypatch):
    stranger = make()
    draw_weights(stranger.clip_model)
    save_file(stranger.clip_model.state_dict(), tmp_path / 'clip.safetensors')
    asked = []

    def download(cfg):
        asked.append(cfg['url'])
        return str(tmp_path / 'clip.safetensors')

    monkeypatch.setattr(open_clip, 'download_pretrained', download)
    with pytest.raises(ValueError, match="no weights 'openai' for a model that is given as a configuration"):
        make(init_cfg=dict(type='Pretrained', checkpoint='openai'))
    classifier = make()
    classifier.checkpoint, classifier.model_name = 'openai', 'ViT-B-16-quickgelu'
    classifier.init_weights()
    assert len(asked) == 1 and 'ViT-B-16' in asked[0]
    own = classifier.clip_model.state_dict()
    expected = stranger.clip_model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    ('bad', 'message'),
    [
        (dict(clip_model='ViT-Q'), "no model 'ViT-Q'"),
        (dict(templates=['a photo']), 'a photo'),
        (dict(templates=[]), 'templates must be 1'),
        (dict(score='max'), "'max'"),
        (dict(sound_thr=1.5), '1.5'),
        (dict(logit_scale=0), 'got 0 and 64'),
        (dict(chunk_size=0), 'and 0'),
    ],
)
def test_arguments_are_checked(bad, message):
    with pytest.raises(ValueError, match=message):
        make(**bad)
