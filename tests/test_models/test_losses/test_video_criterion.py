# SPDX-License-Identifier: Apache-2.0
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import same_points, tiny_config
from torch import Tensor
from torch.nn import functional as F

from ovavss_mm.models.losses.video_criterion import VideoCriterion, VideoTargets

LAYERS, QUERIES, CHANNELS, FRAMES, HEIGHT, WIDTH = 2, 4, 6, 3, 8, 12
BCE = dict(
    loss_mask=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0),
    cost=dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
)


def make_criterion(focal: bool = True, num_classes: int = 1, **kwargs) -> VideoCriterion:
    config = tiny_config().decode_head.criterion
    config.loss_sound.num_classes = num_classes
    if not focal:
        config.loss_mask = BCE['loss_mask']
        config.match_costs[1] = BCE['cost']
    return VideoCriterion(**(config | dict(num_points=40) | kwargs))


def make_predictions(queries: int = QUERIES, classes: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Sound logits, mask embeddings and per-pixel embeddings, which want gradients."""
    shapes = ((LAYERS, queries, classes + 1), (LAYERS, queries, CHANNELS), (FRAMES, CHANNELS, HEIGHT, WIDTH))
    return tuple(torch.randn(shape, requires_grad=True) for shape in shapes)


def make_labels(names: int = 2) -> Tensor:
    """A label map (T, 4 H, 4 W) with a moving rectangle a name, the first one silent in frame 1."""
    labels = torch.zeros(FRAMES, 4 * HEIGHT, 4 * WIDTH, dtype=torch.uint8)
    for k in range(names):
        for t in range(FRAMES):
            if (k, t) != (0, 1):
                labels[t, 2 + 6 * k : 10 + 6 * k, 3 + 4 * t + 8 * k : 15 + 4 * t + 8 * k] = 7 + k
    return labels


# ------------------------------------------------------------------ the reference
def sample(field: Tensor, points: Tensor) -> Tensor:
    """Values (P,) of a map (H, W) at points (P, 2), x and y in 0..1."""
    grid = 2 * points[None, None] - 1
    return F.grid_sample(field[None, None], grid, align_corners=False)[0, 0, 0]


def mask_loss(logits: Tensor, target: Tensor, focal: bool) -> Tensor:
    """Focal loss or cross-entropy, point by point."""
    entropy = F.softplus(logits) - logits * target
    if not focal:
        return entropy
    p = logits.sigmoid()
    hit = p * target + (1 - p) * (1 - target)
    return (0.25 * target + 0.75 * (1 - target)) * (1 - hit) ** 2 * entropy


def dice(logits: Tensor, target: Tensor) -> Tensor:
    p = logits.sigmoid()
    return 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)


def pair_cost(sound: Tensor, logits: Tensor, target: Tensor, focal: bool, column: int = 0) -> Tensor:
    """Cost of a query for a target, whose points of all frames are one row.

    A host's focal cost weighs its two terms apart, which differs at points between 0 and 1.
    """
    if focal:
        p = logits.sigmoid()
        positive = -0.25 * (1 - p) ** 2 * p.log() * target
        points = positive - 0.75 * p**2 * (1 - p).log() * (1 - target)
    else:
        points = mask_loss(logits, target, focal)
    return -2 * sound.softmax(-1)[column] + 5 * points.mean() + 5 * dice(logits, target)


def match(cost: Tensor) -> list[tuple[int, int]]:
    """Cheapest one-to-one pairs (query, target) of a matrix (Q, K), of all that there are."""
    queries, targets = map(range, cost.shape)
    if len(queries) >= len(targets):
        orders = permutations(queries, len(targets))
        options = [list(zip(order, targets, strict=True)) for order in orders]
    else:
        orders = permutations(targets, len(queries))
        options = [list(zip(queries, order, strict=True)) for order in orders]
    return min(options, key=lambda pairs: sum(cost[pair].item() for pair in pairs))


def choose_points(logits: Tensor, criterion: VideoCriterion) -> Tensor:
    """The least certain of the candidates, and others."""
    number = criterion.num_points
    candidates = same_points(1, int(criterion.oversample_ratio * number), 2)[0]
    uncertain = int(criterion.importance_sample_ratio * number)
    certainty = sample(logits, candidates).abs()
    chosen = candidates[certainty.argsort()[:uncertain]]
    if uncertain == number:
        return chosen
    return torch.cat([chosen, same_points(1, number - uncertain, 2)[0]])


def reference(criterion: VideoCriterion, predictions: tuple, labels: Tensor, focal: bool) -> dict:
    """The losses in the plain way: full-size logits, one query, target, frame at a time."""
    sound_logits, mask_embed, pixel_embed = predictions
    frames = [t for t in range(len(labels)) if (labels[t] != 255).any()]
    names = sorted({int(v) for t in frames for v in labels[t].unique()} - {0, 255})
    closed = sound_logits.shape[-1] > 2
    columns = [name - 1 if closed else 0 for name in names]
    losses = dict(loss_sound=[], loss_mask=[], loss_dice=[])
    points = same_points(1, criterion.num_points, 2)[0]
    for layer in range(len(sound_logits)):
        logits = torch.einsum('qc,tchw->qthw', mask_embed[layer], pixel_embed)
        truth = {(k, t): (labels[t] == name).float() for k, name in enumerate(names) for t in frames}
        cost = torch.zeros(len(logits), len(names))
        for q in range(len(logits)):
            for k in range(len(names)):
                row = torch.cat([sample(logits[q, t], points) for t in frames])
                target = torch.cat([sample(truth[k, t], points) for t in frames])
                sound = sound_logits[layer, q]
                cost[q, k] = pair_cost(sound, row, target, focal, columns[k]).detach()
        pairs = match(cost)
        has_target = torch.tensor([q in dict(pairs) for q in range(len(logits))])
        weight = torch.where(has_target, 1.0, 0.1)
        column = [columns[dict(pairs)[q]] if q in dict(pairs) else -1 for q in range(len(logits))]
        entropy = -sound_logits[layer].log_softmax(-1)[range(len(logits)), column]
        losses['loss_sound'].append(2 * (weight * entropy).sum() / weight.sum())
        mask, overlap = torch.zeros(()), torch.zeros(())
        for q, k in pairs:
            for t in frames:
                where = choose_points(logits[q, t].detach(), criterion)
                row, target = sample(logits[q, t], where), sample(truth[k, t], where)
                mask = mask + 5 * mask_loss(row, target, focal).mean() / len(names)
                overlap = overlap + 5 * dice(row, target) / len(names)
        losses['loss_mask'].append(mask)
        losses['loss_dice'].append(overlap)
    return {name: torch.stack(values) for name, values in losses.items()}


@pytest.mark.parametrize('focal', [True, False], ids=['focal', 'cross-entropy'])
@pytest.mark.parametrize('importance', [0.0, 0.75, 1.0])
def test_equals_plain_loops_in_value_and_gradient(fixed_points, focal, importance):
    criterion = make_criterion(focal, importance_sample_ratio=importance)
    labels, predictions = make_labels(3), make_predictions()
    labels[1] = 255  # not annotated, between two that are
    results = []
    for losses in (
        criterion(*predictions, VideoTargets.from_label_map(labels)),
        reference(criterion, predictions, labels, focal),
    ):
        assert all(x.shape == (LAYERS,) and x.all() for x in losses.values())
        total = sum((x * torch.tensor([0.5, 2.0])).sum() for x in losses.values())
        results.append((*losses.values(), *torch.autograd.grad(total, predictions)))
    for ours, plain in zip(*results, strict=True):
        assert torch.allclose(ours, plain, atol=1e-5, rtol=1e-4)


def test_a_closed_set_head_learns_names(fixed_points):
    """As with one class, but a target has its name's column, in matching and loss; the last one is 'no object'."""
    criterion, labels = make_criterion(num_classes=10), make_labels(3)  # names 7, 8, 9
    predictions = make_predictions(classes=10)
    results = []
    for losses in (
        criterion(*predictions, VideoTargets.from_label_map(labels)),
        reference(criterion, predictions, labels, focal=True),
    ):
        total = sum(x.sum() for x in losses.values())
        results.append((*losses.values(), *torch.autograd.grad(total, predictions)))
    for ours, plain in zip(*results, strict=True):
        assert torch.allclose(ours, plain, atol=1e-5, rtol=1e-4)
    assert VideoTargets.from_label_map(labels).labels.tolist() == [6, 7, 8]


def test_a_name_that_the_closed_set_lacks_is_named():
    criterion, targets = make_criterion(num_classes=8), VideoTargets.from_label_map(make_labels(3))
    with pytest.raises(ValueError, match='name 8 of the vocabulary .* 8 names apart'):
        criterion(*make_predictions(classes=8), targets)


@pytest.mark.parametrize(('queries', 'names'), [(4, 2), (2, 2), (2, 4), (1, 3), (3, 1)])
def test_matching_is_the_cheapest_of_all(fixed_points, queries, names):
    """Also with fewer queries than targets: then each query gets one, losses are divided by K."""
    criterion, labels = make_criterion(), make_labels(names)
    predictions = make_predictions(queries)
    losses = criterion(*predictions, VideoTargets.from_label_map(labels))
    expected = reference(criterion, predictions, labels, focal=True)
    for name, value in losses.items():
        assert torch.allclose(value, expected[name], atol=1e-5), name
    pairs = criterion.match(*predictions, VideoTargets.from_label_map(labels))
    assert len(pairs) == LAYERS
    for query, target in pairs:
        assert len(set(query.tolist())) == len(query) == min(queries, names)
        assert target.tolist() == sorted(set(target.tolist()))


def test_the_query_that_is_right_is_matched():
    """Query k + 1 draws target k exactly, in every frame."""
    labels = make_labels(2)
    small = F.interpolate(labels[None].float(), (HEIGHT, WIDTH), mode='nearest-exact')[0]
    pixels = torch.stack([torch.where(small == 7 + k, 9.0, -9.0) for k in range(2)], 1)
    embed = torch.zeros(1, QUERIES, 2)
    embed[0, 1, 0] = embed[0, 2, 1] = 1.0
    query, target = make_criterion(num_points=2000).match(
        torch.zeros(1, QUERIES, 2), embed, pixels, VideoTargets.from_label_map(labels)
    )[0]
    assert query.tolist() == [1, 2] and target.tolist() == [0, 1]


# ------------------------------------------------------------------ targets
def test_targets_are_the_names_of_annotated_frames():
    labels = make_labels(2)
    labels[1, 0, :5] = 255
    targets = VideoTargets.from_label_map(labels)
    assert targets.frames.tolist() == [0, 1, 2]
    assert targets.masks.shape == (2, FRAMES, 4 * HEIGHT, 4 * WIDTH)
    assert torch.equal(targets.masks[0], labels == 7) and torch.equal(targets.masks[1], labels == 8)
    assert not targets.masks[0, 1].any(), 'silent in frame 1, sounding in others'


def test_only_frame_0_of_v1s_clips_counts():
    labels = make_labels(2)
    labels[0][labels[0] == 8] = 0  # name 8 is silent in the only annotated frame
    labels[1:] = 255
    targets = VideoTargets.from_label_map(labels)
    assert targets.frames.tolist() == [0] and targets.masks.shape[:2] == (1, 1)
    assert torch.equal(targets.masks[0, 0], labels[0] == 7)


def test_frames_without_annotation_have_no_part_in_the_loss(fixed_points):
    labels, criterion = make_labels(2), make_criterion()
    labels[1:] = 255
    targets = VideoTargets.from_label_map(labels)
    sound, embed, pixels = make_predictions()
    losses = criterion(sound, embed, pixels, targets)
    sum(x.sum() for x in losses.values()).backward()
    assert pixels.grad[0].any() and not pixels.grad[1:].any()
    other = pixels.detach().clone()
    other[1:] += torch.randn_like(other[1:])
    for name, value in criterion(sound, embed, other, targets).items():
        assert torch.equal(value, losses[name])


@pytest.mark.parametrize('label', [0, 255], ids=['all background', 'not annotated'])
def test_without_targets_only_sound_is_learned_and_all_stays_in_the_graph(label):
    labels = torch.full((FRAMES, 4 * HEIGHT, 4 * WIDTH), label, dtype=torch.uint8)
    predictions = make_predictions()
    criterion, targets = make_criterion(), VideoTargets.from_label_map(labels)
    assert [len(q) for q, _ in criterion.match(*predictions, targets)] == [0] * LAYERS
    losses = criterion(*predictions, targets)
    assert losses['loss_mask'].tolist() == losses['loss_dice'].tolist() == [0.0] * LAYERS
    no_object = torch.ones(QUERIES, dtype=torch.long)
    for layer in range(LAYERS):
        expected = 2 * F.cross_entropy(predictions[0][layer], no_object)
        assert torch.allclose(losses['loss_sound'][layer], expected, atol=1e-5)
    sum(x.sum() for x in losses.values()).backward()
    assert predictions[0].grad.any()
    for prediction in predictions[1:]:
        assert prediction.grad is not None and not prediction.grad.any()


# ------------------------------------------------------------------ overflow
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_an_overflow_shows_in_the_losses(value):
    """It is for the loss scaler, or the logger, to deal with; matching goes on."""
    sound, embed, pixels = (x.detach() for x in make_predictions())
    sound[0], embed[0] = value, value
    criterion, targets = make_criterion(), VideoTargets.from_label_map(make_labels(2))
    losses = criterion(sound, embed, pixels, targets)
    assert not losses['loss_sound'][0].isfinite() and not losses['loss_mask'][0].isfinite()
    assert all(loss[1].isfinite() for loss in losses.values()), 'the other layer is well'
    nothing = VideoTargets.from_label_map(torch.zeros_like(make_labels()))
    assert criterion(sound, embed, pixels, nothing)['loss_mask'].tolist() == [0.0] * LAYERS


# ------------------------------------------------------------------ symmetries
@settings(max_examples=10, deadline=None)
@given(st.permutations(range(QUERIES)), st.permutations([5, 9, 70]), st.integers(0, 1000))
def test_order_of_queries_and_values_of_labels_play_no_part(queries, values, seed):
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, 'rand', same_points)
        criterion, labels = make_criterion(), make_labels(3)
        sound, embed, pixels = make_predictions()
        renamed = torch.zeros_like(labels)
        for old, new in zip((7, 8, 9), values, strict=True):
            renamed[labels == old] = new
        losses = criterion(sound, embed, pixels, VideoTargets.from_label_map(labels))
        again = criterion(sound[:, queries], embed[:, queries], pixels, VideoTargets.from_label_map(renamed))
    for name, value in losses.items():
        assert torch.allclose(value, again[name], atol=1e-5), name


def test_layers_are_independent(fixed_points):
    criterion, predictions = make_criterion(), make_predictions()
    targets = VideoTargets.from_label_map(make_labels(2))
    both = criterion(*predictions, targets)
    for layer in range(LAYERS):
        part = [x[layer : layer + 1] for x in predictions[:2]]
        for name, value in criterion(*part, predictions[2], targets).items():
            assert torch.allclose(value[0], both[name][layer], atol=1e-6)


def test_points_are_drawn_anew_each_time():
    criterion, predictions = make_criterion(), make_predictions()
    targets = VideoTargets.from_label_map(make_labels(2))
    first, second = (criterion(*predictions, targets)['loss_mask'] for _ in range(2))
    assert not torch.equal(first, second)


def test_losses_are_float32_under_autocast(fixed_points):
    criterion = make_criterion()
    predictions = [x.detach().bfloat16() for x in make_predictions()]
    targets = VideoTargets.from_label_map(make_labels(2))
    expected = criterion(*[x.float() for x in predictions], targets)
    with torch.autocast('cpu', torch.bfloat16):
        losses = criterion(*predictions, targets)
    for name, value in losses.items():
        assert value.dtype == torch.float32 and torch.equal(value, expected[name])


@pytest.mark.parametrize(
    'bad',
    [
        dict(num_points=0),
        dict(oversample_ratio=0.5),
        dict(importance_sample_ratio=1.5),
        dict(importance_sample_ratio=-0.5),
    ],
)
def test_arguments_are_checked(bad):
    with pytest.raises(ValueError, match=rf'got .*{next(iter(bad.values()))}'):
        make_criterion(**bad)
