# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from tiny_model import draw_weights
from torch.nn import functional as F

from ovavss_mm.models.layers import FrameSoundScore, PresenceScore

LAYERS, BATCH, QUERIES, FRAMES, TOKENS, CHANNELS = 3, 2, 4, 5, 2, 8
KINDS = pytest.mark.parametrize('kind', [FrameSoundScore, PresenceScore])


def make(kind, **kwargs):
    return draw_weights(kind(CHANNELS, **kwargs), 0.5).double()


def make_input() -> tuple[torch.Tensor, torch.Tensor]:
    shapes = (LAYERS, BATCH, QUERIES, CHANNELS), (BATCH, FRAMES, TOKENS, CHANNELS)
    return tuple(torch.randn(shape, dtype=torch.double) for shape in shapes)


@KINDS
def test_each_clip_layer_and_frame_by_itself(kind):
    score, (query, audio) = make(kind), make_input()
    logits = score(query, audio)
    assert logits.shape == (LAYERS, BATCH, QUERIES if kind is FrameSoundScore else 1, FRAMES)
    for layer, clip, frame in [(0, 1, 2), (2, 0, 4)]:
        alone = score(query[layer, clip][None, None], audio[clip, frame][None, None])
        assert torch.allclose(alone[0, 0, :, 0], logits[layer, clip, :, frame])
    order = torch.randperm(FRAMES)
    assert torch.allclose(score(query, audio[:, order]), logits[..., order])


@KINDS
def test_order_of_queries_does_not_matter(kind):
    score, (query, audio) = make(kind), make_input()
    order = torch.randperm(QUERIES)
    logits, other = score(query, audio), score(query[:, :, order], audio)
    assert torch.allclose(other, logits[:, :, order] if kind is FrameSoundScore else logits)


def test_loss_is_a_weighted_mean_of_what_each_query_does_in_each_frame():
    score = make(FrameSoundScore, loss_weight=3.0, no_object_weight=0.2)
    logits = torch.randn(1, 3, 4, dtype=torch.double)
    sounds = torch.tensor([[1, 0, 1, 1], [0, 0, 1, 0]]).bool()  # of two targets
    matches = [(torch.tensor([2, 0]), torch.tensor([0, 1]))]  # query 2 has target 0, query 0 target 1
    wanted = torch.stack([sounds[1], torch.zeros(4).bool(), sounds[0]]).double()
    entropy = F.softplus(logits[0]) - logits[0] * wanted
    weights = torch.tensor([1.0, 0.2, 1.0], dtype=torch.double)[:, None]
    expected = 3 * (entropy * weights).sum() / (4 * weights.sum())
    assert torch.allclose(score.loss(logits, sounds, matches), expected)


@KINDS
@pytest.mark.parametrize('frames', [0, 3])
def test_where_nothing_counts_the_loss_is_0_and_not_nan(kind, frames):
    """No annotated frame; or no target, and no weight of queries without one."""
    score = make(kind, **(dict(no_object_weight=0.0) if kind is FrameSoundScore else {}))
    logits = torch.randn(2, QUERIES if kind is FrameSoundScore else 1, frames, requires_grad=True)
    loss = score.loss(logits, torch.zeros(0, frames).bool(), [(torch.zeros(0).long(),) * 2] * 2)
    loss.sum().backward()
    assert logits.grad.isfinite().all() and (loss == 0).all() == (frames == 0 or kind is FrameSoundScore)


def test_presence_is_whether_any_target_sounds():
    score, logits = make(PresenceScore, loss_weight=1.0), torch.randn(2, 1, 3, dtype=torch.double)
    sounds = torch.tensor([[1, 0, 0], [1, 0, 1]]).bool()
    wanted = torch.tensor([1.0, 0.0, 1.0], dtype=torch.double)
    expected = (F.softplus(logits[:, 0]) - logits[:, 0] * wanted).mean(1)
    assert torch.allclose(score.loss(logits, sounds, []), expected)


@KINDS
def test_silence_alone_has_a_loss_that_lowers_all_scores(kind):
    score, (query, audio) = make(kind), make_input()
    logits = score(query, audio)[:, 0].detach().requires_grad_()
    none = torch.zeros(0, FRAMES).bool(), [(torch.zeros(0).long(),) * 2] * LAYERS
    loss = score.loss(logits, *none)
    assert loss.shape == (LAYERS,) and (loss > 0).all()
    loss.sum().backward()
    assert (logits.grad > 0).all()


@KINDS
def test_weights_are_checked(kind):
    with pytest.raises(ValueError, match='loss_weight must not be negative, got -1'):
        kind(CHANNELS, loss_weight=-1)
    with pytest.raises(ValueError, match='no_object_weight must not be negative, got -2'):
        FrameSoundScore(CHANNELS, no_object_weight=-2)
