# SPDX-License-Identifier: Apache-2.0
"""Names by picture and sound: limits, seconds, parts of the vocabulary, and what is passed on."""

import pytest
import torch
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from tiny_model import CLASSIFIER
from torch import nn

from ovavss_mm.datasets import Vocabulary
from ovavss_mm.models import SoundNameScorer

NAMES = Vocabulary(['dog', 'cat', 'bird', 'car'], base=['dog', 'car'])
SIZE = (32, 32)


@MODELS.register_module(force=True)
class StubNamer(nn.Module):
    """Rows of sound are the logits of the names."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def probabilities(self, audio, names):
        self.calls += 1
        return audio[:, : len(names)].softmax(-1)


@MODELS.register_module(force=True)
class StubClassifier(nn.Module):
    """Takes scores that are there."""

    open_vocabulary = True

    def __init__(self, score='softmax'):
        super().__init__()
        self.score, self.weight = score, nn.Parameter(torch.ones(2))

    def forward(self, frames, queries, names, pad_shape):
        queries.class_scores = queries.given
        return queries

    def text_rows(self, names):
        return torch.ones(len(names), 2)


def scorer(weight, classifier=None) -> SoundNameScorer:
    return SoundNameScorer(classifier or dict(type='StubClassifier'), dict(type='StubNamer'), weight)


def a_clip(num_queries=3, num_frames=4, sharp=3.0):
    """Frames and queries with drawn scores, sound and masks."""
    torch.manual_seed(0)
    queries = InstanceData(
        scores=torch.rand(num_queries),
        masks=torch.ones(num_queries, num_frames, 8, 8),
        given=(sharp * torch.randn(num_queries, len(NAMES))).softmax(-1),
    )
    queries.set_metainfo(dict(naming_audio=sharp * torch.randn(num_frames, len(NAMES))))
    return torch.zeros(num_frames, 3, *SIZE, dtype=torch.uint8), queries


def class_scores(model, frames, queries, names=NAMES):
    return model(frames, queries[:], names, SIZE).class_scores


def test_weight_0_is_the_classifier_alone_to_the_bit():
    frames, queries = a_clip()
    model = scorer(0.0)
    assert torch.equal(class_scores(model, frames, queries), queries.given)
    assert model.namer.calls == 0 and not model.uses_sound and scorer(0.1).uses_sound
    queries.set_metainfo(dict(naming_audio=None))
    assert torch.equal(class_scores(model, frames, queries), queries.given)


def test_weight_1_is_the_sound_alone():
    frames, queries = a_clip()
    found = class_scores(scorer(1), frames, queries)
    expected = queries.naming_audio.log_softmax(-1).mean(0).softmax(-1)
    torch.testing.assert_close(found, expected.expand(3, -1))


def test_combines_second_by_second_and_sums_to_one():
    frames, queries = a_clip()
    queries.masks[1, 2:] = -1
    found, a = class_scores(scorer(0.4), frames, queries), 0.4
    for q, seconds in ((0, 4), (1, 2)):
        sound = queries.naming_audio[:seconds].softmax(-1)
        each = queries.given[q] ** (1 - a) * sound**a
        each /= each.sum(1, keepdim=True)
        product = each.prod(0) ** (1 / seconds)
        torch.testing.assert_close(found[q], product / product.sum())
    torch.testing.assert_close(found.sum(1), torch.ones(3))


def test_a_second_without_its_mask_has_no_effect():
    frames, queries = a_clip()
    queries.masks[0, 1:] = -0.1
    queries.masks[2] = -1  # nowhere: as the picture says
    before = class_scores(scorer(0.5), frames, queries)
    assert torch.equal(before[2], queries.given[2])
    queries.naming_audio[1:] = 0
    after = class_scores(scorer(0.5), frames, queries)
    assert torch.equal(before[0], after[0]) and not torch.allclose(before[1], after[1])
    queries.masks[0, 1, :, 5:] = 1  # in the padding of frames that are 32 x 20
    cut = class_scores(scorer(0.5), frames[..., :20], queries)
    torch.testing.assert_close(cut[0], after[0])


def test_a_query_is_named_the_same_alone():
    frames, queries = a_clip()
    together = class_scores(scorer(0.3), frames, queries)
    torch.testing.assert_close(class_scores(scorer(0.3), frames, queries[[1]])[0], together[1])


def test_base_and_novel_names_have_weights_of_their_own():
    frames, queries = a_clip(num_frames=1)
    found = class_scores(scorer(dict(base=0.2, novel=0.7)), frames, queries)
    a = torch.tensor([0.2, 0.7, 0.7, 0.2])
    expected = queries.given ** (1 - a) * queries.naming_audio.softmax(-1) ** a
    torch.testing.assert_close(found, expected / expected.sum(1, keepdim=True))
    unknown = class_scores(scorer(dict(base=0.2, novel=0.7)), frames, queries, list(NAMES))
    torch.testing.assert_close(unknown, class_scores(scorer(0.7), frames, queries))


def test_probabilities_of_0_stay_finite_and_order_names():
    frames, queries = a_clip(num_queries=1, num_frames=1)
    queries.given = torch.tensor([[1.0, 0, 0, 0]])
    queries.naming_audio[:] = torch.tensor([[-1e4, 1e4, 0, 0]])
    for weight, best in ((0.1, 0), (0.9, 1)):
        (found,) = class_scores(scorer(weight), frames, queries)
        assert found.isfinite().all() and found.argmax() == best
    (found,) = class_scores(scorer(0.5, dict(type='StubClassifier', score='sigmoid')), frames, queries)
    assert found.isfinite().all() and found.max() == 1


def test_scores_that_do_not_sum_to_one_keep_their_greatest():
    frames, queries = a_clip()
    queries.given = torch.rand(3, 4)
    found = class_scores(scorer(0.5, dict(type='StubClassifier', score='sigmoid')), frames, queries)
    torch.testing.assert_close(found.amax(1), queries.given.amax(1))
    sound = queries.naming_audio.log_softmax(-1).mean(0).exp()
    ratio = found / (queries.given * sound).sqrt()
    torch.testing.assert_close(ratio, ratio[:, :1].expand(-1, 4))


def test_scores_of_frames_hear_their_own_second():
    frames, queries = a_clip(num_frames=2)
    queries.frame_scores = torch.rand(3, 2, 4)
    queries.masks[0, 1] = -1
    out = scorer(1.0)(frames, queries[:], NAMES, SIZE)
    assert torch.equal(out.frame_scores[0, 1], queries.frame_scores[0, 1])
    order = out.frame_scores[1].argsort(-1)
    assert torch.equal(order, queries.naming_audio.argsort(-1))
    torch.testing.assert_close(out.frame_scores.amax(-1), queries.frame_scores.amax(-1))


def test_no_queries_and_no_sound():
    frames, queries = a_clip()
    assert class_scores(scorer(0.5), frames, queries[:0]).shape == (0, 4)
    queries.set_metainfo(dict(naming_audio=None))
    with pytest.raises(ValueError, match="step dict.type='LoadClipAudio', key='naming_audio'"):
        class_scores(scorer(0.5), frames, queries)


@pytest.mark.parametrize('wrong', [-0.1, 1.5, True, 'half', dict(base=0.1), dict(base=0.1, novel=2)], ids=str)
def test_wrong_weights_are_named(wrong):
    with pytest.raises(ValueError, match='in .0, 1., or a dict of base and novel'):
        scorer(wrong)


def test_what_is_asked_of_a_classifier_is_passed_on():
    model = scorer(0.2)
    assert model.open_vocabulary and model.text_rows(NAMES).shape == (4, 2)
    assert not hasattr(model, 'uses_backbone') and getattr(model, 'text_channels', None) is None
    clip = SoundNameScorer(CLASSIFIER, dict(type='StubNamer'))
    assert clip.text_embeddings(NAMES).shape == (4, 16) and clip.text_channels == 16
    assert clip.truncated_words(Vocabulary(['dog'])) == []


def test_names_that_the_namer_cuts_are_told_where_it_is_asked():
    cut = dict(classifier=['a'], namer=['b', 'a'])
    for weight, expected in ((0.0, ['a']), (0.2, ['a', 'b'])):
        model = scorer(weight)
        for part, words in cut.items():
            getattr(model, part).truncated_words = lambda vocabulary, words=words: words
        assert model.truncated_words(Vocabulary(['a', 'b'])) == expected


def test_checkpoints_of_the_classifier_alone_load():
    model, alone = scorer(0.2), MODELS.build(dict(type='StubClassifier'))
    with torch.no_grad():
        alone.weight.fill_(7)
    model.load_state_dict(alone.state_dict())
    assert model.classifier.weight.eq(7).all()
    again = scorer(0.2)
    again.load_state_dict(model.state_dict())
    assert again.classifier.weight.eq(7).all()
