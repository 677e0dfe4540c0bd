# SPDX-License-Identifier: Apache-2.0
"""Trackers: queries of single frames in one order over a clip."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from mmseg.registry import MODELS

from ovavss_mm.models import MomentumTracker, TopKTracker

DATA = Path(__file__).parents[2] / 'data/released/links.npz'
TRACKERS = [MomentumTracker(), MomentumTracker(1.0), TopKTracker(), TopKTracker(3, 2), TopKTracker(1, 1)]
ids = pytest.mark.parametrize('tracker', TRACKERS, ids=['0.7', 'online', '9-5', '3-2', '1-1'])


def walk(frames: int, queries: int, channels: int = 8, drift: float = 0.1, seed: int = 0) -> torch.Tensor:
    """Embeddings (T, Q, C) that change little from frame to frame."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(queries, channels, generator=generator)
    return start + drift * torch.randn(frames, queries, channels, generator=generator).cumsum(0)


def make_frames(embeds: torch.Tensor, **fields: torch.Tensor) -> list[InstanceData]:
    """Frames whose masks and scores tell frame and query."""
    frames = []
    for t, embed in enumerate(embeds):
        number = torch.arange(len(embed)).float() + 100 * t
        frame = InstanceData(
            query_embeds=embed, scores=number / 1000, masks=number[:, None, None, None].expand(-1, 1, 2, 3)
        )
        frame.set_data({key: value[t] for key, value in fields.items()})
        frames.append(frame)
    return frames


@pytest.mark.parametrize(('name', 'tracker'), [('ov2seg', MomentumTracker()), ('clip_vis', TopKTracker())])
def test_links_as_the_published_code_did(name, tracker):
    with np.load(DATA) as file:
        embeds, index = torch.from_numpy(file[f'{name}/embeds']), file[f'{name}/index']
    assert torch.equal(tracker.link(embeds), torch.from_numpy(index).long())


@ids
def test_shuffled_queries_go_to_the_same_slots(tracker):
    embeds = walk(12, 7)
    plain = tracker(make_frames(embeds, object_logits=torch.randn(12, 7, 2)))
    assert torch.equal(plain.link_index, torch.arange(7).expand(12, 7)), 'as they drift little'
    orders = torch.stack([torch.arange(7), *(torch.randperm(7) for _ in range(11))])
    frames = make_frames(embeds, object_logits=torch.randn(12, 7, 2))
    shuffled = tracker([frame[order] for frame, order in zip(frames, orders, strict=True)])
    assert torch.equal(orders.gather(1, shuffled.link_index), plain.link_index)
    assert torch.equal(shuffled.masks, plain.masks)
    assert torch.equal(shuffled.query_embeds, plain.query_embeds)


@ids
def test_the_first_frame_gives_the_slots_their_order(tracker):
    embeds, order = walk(6, 5, drift=0.5), torch.tensor([3, 0, 4, 1, 2])
    plain, moved = tracker.link(embeds), tracker.link([embeds[0][order], *embeds[1:]])
    assert torch.equal(moved[1:], plain[1:, order])


@ids
def test_every_query_has_one_slot_whatever_the_embeddings(tracker):
    embeds = walk(12, 6, drift=3.0)
    embeds[2], embeds[3, :3], embeds[4, 0] = 1.0, 0.0, float('nan')  # all alike, without direction, without value
    index = tracker.link(embeds)
    assert index.dtype == torch.int64
    assert torch.equal(index.sort(1).values, torch.arange(6).expand(12, 6))


@ids
@pytest.mark.parametrize(('frames', 'queries'), [(1, 4), (3, 1), (3, 0)])
def test_clips_of_one_frame_and_frames_of_few_queries(tracker, frames, queries):
    given = make_frames(walk(frames, queries), ious=torch.rand(frames, queries))
    clip = tracker(given)
    assert clip.masks.shape == (queries, frames, 2, 3) and clip.query_embeds.shape == (queries, frames, 8)
    assert torch.equal(clip.ious, torch.stack([frame.ious for frame in given], 1))
    torch.testing.assert_close(clip.scores, torch.stack([frame.scores for frame in given]).mean(0))


def test_object_logits_are_averaged_before_the_softmax():
    logits = torch.tensor([[[4.0, 0.0], [0.0, 0.0]], [[-2.0, 0.0], [0.0, 3.0]]])  # (T, Q, 2)
    clip = MomentumTracker()(make_frames(walk(2, 2), object_logits=logits))
    torch.testing.assert_close(clip.scores, torch.tensor([1.0, -1.5]).sigmoid())
    assert torch.equal(clip.object_logits, logits.transpose(0, 1))


def best_order(cost: torch.Tensor) -> tuple[float, tuple[int, ...]]:
    """The cheapest assignment, by trying all."""
    return min((sum(float(cost[s, q]) for s, q in enumerate(order)), order) for order in permutations(range(len(cost))))


def slow_top_k(embeds: torch.Tensor, memory: int, top_k: int) -> list[tuple[int, ...]]:
    """The description of CLIP-VIS's linking, step by step."""
    queue, index = [embeds[0]], [tuple(range(len(embeds[0])))]
    for embed in embeds[1:]:
        costs = [1 - torch.cosine_similarity(slots[:, None], embed[None], dim=-1) for slots in queue]
        found = sorted((*best_order(cost), j) for j, cost in enumerate(costs))
        order = found[0][1]
        if len(queue) >= top_k:
            order = best_order(sum((j + 1) * costs[j] for *_, j in found[:top_k]))[1]
        index.append(order)
        queue = [*queue, embed[list(order)]][-memory:]
    return index


@pytest.mark.parametrize(('memory', 'top_k'), [(9, 5), (4, 2), (3, 3), (2, 1)])
def test_top_k_is_what_trying_all_assignments_gives(memory, top_k):
    embeds = walk(12, 4, channels=3, drift=0.8, seed=1)
    assert TopKTracker(memory, top_k).link(embeds).tolist() == [list(x) for x in slow_top_k(embeds, memory, top_k)]


@pytest.mark.parametrize('momentum', [0.7, 1.0])
def test_momentum_is_what_trying_all_assignments_gives(momentum):
    embeds = walk(12, 5, channels=3, drift=0.8)
    memory, index = embeds[0], [tuple(range(5))]
    for embed in embeds[1:]:
        index.append(best_order(1 - torch.cosine_similarity(memory[:, None], embed[None], dim=-1))[1])
        memory = momentum * embed[list(index[-1])] + (1 - momentum) * memory
    assert MomentumTracker(momentum).link(embeds).tolist() == [list(x) for x in index]
    alone = torch.equal(TopKTracker(1, 1).link(embeds), torch.tensor(index))
    assert alone == (momentum == 1), 'the frame before decides alone'


def test_longer_embeddings_weigh_more_in_the_memory():
    """The mixture is not of unit vectors: the first frame's long vectors still decide in the third."""
    long, other = torch.tensor([[10.0, 0.0], [0.0, 10.0]]), torch.tensor([[0.5, 1.0], [1.0, 0.5]])
    assert MomentumTracker().link([long, other, other]).tolist() == [[0, 1], [1, 0], [1, 0]]
    turned = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # against the short vectors in between
    assert MomentumTracker().link([long, turned.flip(0), turned]).tolist()[-1] == [1, 0]


def test_half_precision_links_as_float32():
    embeds = walk(6, 5).half()
    for tracker in TRACKERS:
        with torch.autocast('cpu', torch.bfloat16):
            found = tracker.link(embeds)
        assert torch.equal(found, tracker.link(embeds.float()))


@pytest.mark.parametrize('momentum', [0, -0.1, 1.1, float('nan'), '0.7', True])
def test_a_wrong_momentum_is_named(momentum):
    with pytest.raises(ValueError, match=f'momentum must be .* got {momentum!r}'):
        MODELS.build(dict(type='MomentumTracker', momentum=momentum))


@pytest.mark.parametrize('numbers', [(9, 0), (4, 5), (9.0, 5), (9, True)])
def test_a_wrong_queue_is_named(numbers):
    memory, top_k = numbers
    with pytest.raises(ValueError, match=f'got top_k={top_k} and memory={memory}'):
        MODELS.build(dict(type='TopKTracker', memory=memory, top_k=top_k))


def test_what_cannot_be_linked_is_named():
    tracker, frames = TopKTracker(), make_frames(walk(2, 3))
    with pytest.raises(ValueError, match='needs a head of single frames, this one gives the queries of a whole clip'):
        tracker(frames[0])
    with pytest.raises(ValueError, match='must have a frame'):
        tracker([])
    with pytest.raises(ValueError, match=r'equally many queries, with query_embeds, got \[2, 3\]'):
        tracker([frames[0], frames[1][:2]])
    with pytest.raises(ValueError, match="with query_embeds, got .* with .*'scores'"):
        tracker([InstanceData(scores=torch.ones(3), masks=torch.ones(3, 1, 2, 2))])
