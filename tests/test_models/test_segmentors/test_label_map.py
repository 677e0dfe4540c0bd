# SPDX-License-Identifier: Apache-2.0
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData
from torch.nn import functional as F

from ovavss_mm.models.segmentors.label_map import best_pairs, dense_pairs, paint, resize_pairs


def make_named(queries: int = 3, names: int = 4) -> InstanceData:
    return InstanceData(
        class_scores=torch.rand(queries, names), scores=torch.rand(queries), masks=torch.randn(queries, 2, 4, 6)
    )


def paint_pairs(pairs, img_shape, pad_shape, ori_shape) -> torch.Tensor:
    """Label map (T, H, W) of pairs with masks (M, T, h4, w4)."""
    masks = resize_pairs(pairs, img_shape, pad_shape, ori_shape).masks
    return torch.stack([paint(pairs.labels.tolist(), masks[:, t]) for t in range(masks.shape[1])])


def make_pairs(*rectangles: tuple) -> InstanceData:
    """Pairs (label, rows, columns): masks at stride 4 that are positive in a rectangle."""
    masks = torch.full((len(rectangles), 2, 4, 6), -1.0)
    for mask, (_, rows, columns) in zip(masks, rectangles, strict=True):
        mask[:, rows, columns] = 1.0
    return InstanceData(masks=masks, labels=torch.tensor([label for label, _, _ in rectangles]))


# ------------------------------------------------------------------ best_pairs
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 4), st.integers(1, 5), st.integers(1, 12), st.floats(0, 1), st.integers(0, 99))
def test_pairs_are_the_best_of_all_queries_and_names(queries, names, max_pairs, thr, seed):
    torch.manual_seed(seed)
    named = make_named(queries, names)
    expected = sorted(
        (
            (named.class_scores[q, n].item(), n, q)
            for q in range(queries)
            for n in range(names)
            if named.class_scores[q, n] > thr
        ),
        reverse=True,
    )[:max_pairs]
    pairs = best_pairs(named, max_pairs, thr)
    assert pairs.scores.tolist() == [score for score, _, _ in expected]
    assert pairs.labels.tolist() == [name for _, name, _ in expected]
    order = torch.tensor([query for _, _, query in expected], dtype=torch.long)
    assert torch.equal(pairs.masks, named.masks[order])
    assert torch.equal(pairs.sound_scores, named.scores[order])


def test_pairs_keep_what_their_queries_look_like():
    """Embeddings of single frames, which a tracker has put in order, as their mean."""
    named = make_named(2, 2)
    named.class_scores = torch.tensor([[0.1, 0.4], [0.5, 0.1]])
    named.query_embeds = torch.randn(2, 3, 5)  # (Q, T, C)
    pairs = best_pairs(named)
    assert torch.equal(pairs.class_scores, named.class_scores[[1, 0]])
    assert torch.allclose(pairs.query_embeds, named.query_embeds.mean(1)[[1, 0]])
    named.frame_sounds = torch.rand(2, 3)
    assert torch.equal(best_pairs(named).frame_sounds, named.frame_sounds[[1, 0]])
    named.query_embeds = torch.randn(2, 5)
    assert torch.equal(best_pairs(named).query_embeds, named.query_embeds[[1, 0]])


def test_a_score_at_the_threshold_is_not_enough():
    named = make_named(1, 3)
    named.class_scores = torch.tensor([[0.5, 0.25, 0.75]])
    assert best_pairs(named, score_thr=0.25).labels.tolist() == [2, 0]
    assert best_pairs(named, score_thr=0.75).labels.tolist() == []


def test_a_query_may_have_two_names_and_a_name_two_queries():
    named = make_named(2, 2)
    named.class_scores = torch.tensor([[0.6, 0.4], [0.5, 0.1]])
    assert best_pairs(named).labels.tolist() == [0, 0, 1]


# ------------------------------------------------------------------ paint_pairs
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5), st.integers(9, 16), st.integers(17, 24), st.integers(0, 99))
def test_the_first_pair_that_covers_a_pixel_names_it(number, height, width, seed):
    torch.manual_seed(seed)
    pairs = InstanceData(masks=torch.randn(number, 2, 4, 6), labels=torch.randint(0, 9, (number,)))
    label_map = paint_pairs(pairs, (height, width), (16, 24), (height, width))
    assert label_map.shape == (2, height, width)
    expected = torch.zeros(2, height, width, dtype=torch.long)
    full = [F.interpolate(m[None], (16, 24), mode='bilinear')[0] for m in pairs.masks]
    for t, y, x in torch.ones_like(expected).nonzero().tolist():
        for mask, label in zip(full, pairs.labels, strict=True):
            if mask[t, y, x] > 0:
                expected[t, y, x] = label + 1
                break
    assert torch.equal(label_map, expected)


def test_a_taken_pixel_stays_taken():
    best = (4, slice(0, 2), slice(0, 6))
    pairs = make_pairs(best, (0, slice(0, 4), slice(0, 3)))
    label_map = paint_pairs(pairs, (16, 24), (16, 24), (16, 24))
    assert (label_map[:, :7] == 5).all()
    assert (label_map[:, 9:, :11] == 1).all()
    assert (label_map[:, 9:, 13:] == 0).all()
    alone = paint_pairs(make_pairs(best), (16, 24), (16, 24), (16, 24))
    assert torch.equal(label_map == 5, alone == 5)


def test_without_pairs_all_is_background():
    empty = InstanceData(masks=torch.zeros(0, 2, 4, 6), labels=torch.zeros(0, dtype=torch.long))
    label_map = paint_pairs(empty, (16, 24), (16, 24), (16, 24))
    assert label_map.shape == (2, 16, 24) and not label_map.any()


def test_masks_are_brought_to_the_size_of_the_original():
    """The right half of frames 12 x 20, padded to 16 x 24; the original is 24 x 40."""
    pairs = make_pairs((0, slice(0, 4), slice(3, 6)))  # from column 12 of 24 on
    label_map = paint_pairs(pairs, (12, 20), (16, 24), (24, 40))
    assert label_map.shape == (2, 24, 40)
    assert (label_map[..., 25:] == 1).all() and (label_map[..., :23] == 0).all()


def test_padding_is_cut_off_before_resizing():
    pairs = make_pairs((0, slice(3, 4), slice(0, 6)))  # rows 12 to 15, which are padding
    pairs.masks[:, :, 3] = 0.5  # too little to reach row 11
    assert paint_pairs(pairs, (11, 24), (16, 24), (16, 24)).sum() == 0
    assert paint_pairs(pairs, (16, 24), (16, 24), (16, 24)).sum() > 0


# ------------------------------------------------------------------ dense logits
def test_dense_logits_are_painted_as_they_are():
    logits = torch.randn(2, 5, 4, 6) * 3
    pairs = dense_pairs(logits, (14, 22), (16, 24), (20, 30))
    full = F.interpolate(logits, (16, 24), mode='bilinear')[..., :14, :22]
    full = F.interpolate(full, (20, 30), mode='bilinear')
    label_map = [paint(pairs.labels.tolist(), pairs.masks[:, t]) for t in range(2)]
    assert torch.equal(torch.stack(label_map), full.argmax(1))
    for label, mask, score in zip(pairs.labels, pairs.masks, pairs.scores, strict=True):
        expected = full.softmax(1)[:, label + 1][mask].mean()
        assert torch.allclose(score, expected, atol=1e-5)


def test_a_single_logit_is_sounding_above_one_half():
    logits = torch.randn(2, 1, 4, 6)
    pairs = dense_pairs(logits, (4, 6), (4, 6), (4, 6))
    assert pairs.labels.tolist() == [0]
    assert torch.equal(pairs.masks[0], logits[:, 0].sigmoid() > 0.5)
    empty = dense_pairs(-logits.abs(), (4, 6), (4, 6), (4, 6))
    assert len(empty) == 0 and empty.masks.shape == (0, 2, 4, 6)


# ------------------------------------------------------------------ scores of single frames
def test_a_pair_is_dropped_from_frames_and_rated_by_its_mask():
    torch.manual_seed(0)
    named = make_named(3, 4)
    named.frame_scores = torch.ones(3, 2, 4)
    named.frame_scores[:, 1] = 0.0  # of no pair the second frame stays
    pairs = best_pairs(named, 12, -1.0)
    assert (pairs.masks[:, 1] == -1).all() and len(pairs) == 12
    best = named.masks[:, 0]
    quality = (best.sigmoid() * (best > 0)).sum((1, 2)) / (best > 0).sum((1, 2))
    wanted = (named.class_scores * quality[:, None]).flatten().sort(descending=True).values
    assert torch.allclose(pairs.scores, wanted, atol=1e-5)
    threshold = float(wanted[4:6].mean())
    assert len(best_pairs(named, 12, threshold)) == 5


def test_a_mask_without_a_pixel_has_no_quality():
    named = make_named(1, 2)
    named.masks, named.frame_scores = -torch.ones(1, 2, 4, 6), torch.ones(1, 2, 2)
    assert best_pairs(named, 2, -1.0).scores.tolist() == [0, 0]
