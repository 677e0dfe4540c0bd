# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.structures import InstanceData
from tiny_model import CLASSIFIER

from ovavss_mm.models import TextSpaceClassifier

NAMES = ['dog', 'cat', 'bird']


@pytest.fixture(scope='module')
def classifier():
    torch.manual_seed(0)
    return TextSpaceClassifier(**{key: value for key, value in CLASSIFIER.items() if key != 'type'})


def make_queries(queries: int = 4, frames: int = 3, channels: int = 16) -> InstanceData:
    torch.manual_seed(1)
    embeds = torch.nn.functional.normalize(torch.randn(queries, frames, channels), dim=-1)
    logits = torch.randn(queries, frames, 2)
    scores = logits.mean(1).softmax(-1)[:, 0]
    return InstanceData(
        scores=scores, masks=torch.randn(queries, frames, 4, 6), object_logits=logits, text_embeds=embeds
    )


def test_scores_are_of_logits_that_are_averaged_over_frames(classifier):
    queries = make_queries()
    named = classifier(None, queries, NAMES, None)
    logits = 50 * queries.text_embeds @ classifier.text_embeddings(NAMES).T
    assert torch.allclose(named.class_scores, (logits.mean(1).sigmoid() * queries.scores[:, None]).sqrt())
    objects = queries.object_logits.softmax(-1)[..., :1]
    assert torch.allclose(named.frame_scores, (logits.sigmoid() * objects).sqrt())


def test_names_change_nothing_for_each_other(classifier):
    one, two = (classifier(None, make_queries(), names, None) for names in (NAMES, ['bird', 'dog']))
    assert torch.allclose(one.class_scores[:, [2, 0]], two.class_scores, atol=1e-6)


def test_there_is_no_image_tower_and_no_query_is_fine(classifier):
    assert not [name for name, _ in classifier.clip_model.visual.named_parameters()]
    assert classifier(None, make_queries(0), NAMES, None).class_scores.shape == (0, 3)


@pytest.mark.parametrize('channels', [8, None])
def test_another_width_is_refused(classifier, channels):
    queries = make_queries(channels=channels or 16)
    if channels is None:
        queries.pop('text_embeds')
    with pytest.raises(ValueError, match=f'gives 16 channels, the head {channels}: set decode_head.text_channels=16'):
        classifier(None, queries, NAMES, None)
