# SPDX-License-Identifier: Apache-2.0
"""Identities over windows, on drawn squares whose true identities are known."""

import re

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from ovavss_mm.models.segmentors.windows import Blender, ObjectNumbers, frame_objects, group_windows
from ovavss_mm.models.trackers import WindowLinker, linker_of
from ovavss_mm.models.trackers.window_linker import alikeness, same_objects, shrink_masks, split_mask

SIZE = (24, 64)
LOOKS = torch.nn.functional.one_hot(torch.arange(8)).float()


def square(x, y=8, side=8):
    """Mask of a square, bool (24, 64)."""
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[y : y + side, x : x + side] = True
    return mask


def window(numbers, objects, embeds=True):
    """Pairs of a window.

    Args:
        numbers (list[int]): of its frames.
        objects (list): label, look and a function of the frame's number that gives x of a square, its mask, or None.
        embeds (bool): whether there are class scores and embeddings.
    """
    masks = []
    for _, _, place in objects:
        found = [place(n) for n in numbers]
        found = [
            torch.zeros(SIZE, dtype=torch.bool) if x is None else x if torch.is_tensor(x) else square(x) for x in found
        ]
        masks.append(torch.stack(found))
    scores = torch.linspace(0.9, 0.6, len(objects))
    pairs = InstanceData(labels=torch.tensor([label for label, _, _ in objects]), scores=scores, sound_scores=scores)
    if embeds:
        pairs.class_scores = LOOKS[[label for label, _, _ in objects]]
        pairs.query_embeds = LOOKS[[look for _, look, _ in objects]]
    pairs.masks = torch.stack(masks)
    return pairs


def ids_over(count, objects, fps=1, overlap=1, **kwargs):
    """Ids of the pairs of each window of a video of so many frames; pairs without a mask are left out of a window."""
    linker, out = WindowLinker(fps=fps, **{'min_part': None, **kwargs}), []
    for group, _ in group_windows(range(count), 5, 5 - overlap, fps):
        for part in group:
            there = [x for x in objects if any(x[2](n) is not None for n in part.numbers)]
            if there:
                found = linker(part.numbers, window(part.numbers, there)).ids.tolist()
                out.append({objects.index(x): i for x, i in zip(there, found, strict=True)})
            else:
                linker(part.numbers, window(part.numbers, objects)[:0])
    return out


def one_each(found):
    """Whether each object has one id, and no other object has it."""
    ids = [{ids[i] for ids in found if i in ids} for i in sorted({i for ids in found for i in ids})]
    return all(len(x) == 1 for x in ids) and len(set.union(*ids)) == len(ids)


# ------------------------------------------------------------------ links
@pytest.mark.parametrize('fps', [1, 2])
@pytest.mark.parametrize('overlap', [0, 1, 3])
def test_moving_objects_of_one_name_stay_two(fps, overlap):
    """Also where nothing but their places tells them apart, and frames of two phases take turns."""
    objects = [(0, 0, lambda n: 2 + n // fps), (0, 0, lambda n: 50 - n // fps)]
    found = ids_over(18 * fps, objects, fps, overlap)
    assert len(found) > 3 and one_each(found)


def test_an_identity_lasts_through_silence():
    """An object that is heard again elsewhere is the one that looks like it; another one of its name is not."""
    first = (0, 0, lambda n: 4 if n < 7 else 50 if n > 21 else None)
    other = (0, 1, lambda n: 30 if n < 11 or n > 24 else None)
    found = ids_over(40, [first, other])
    assert one_each(found) and max(len(ids) for ids in found) == 2
    forgetful = ids_over(40, [first, other], memory=8.0)
    assert not one_each(forgetful)


def test_another_name_after_silence_is_another_object():
    objects = [(0, 0, lambda n: 4 if n < 7 else None), (1, 0, lambda n: 4 if n > 15 else None)]
    assert one_each(ids_over(24, objects))


def test_a_wrong_name_does_not_end_an_identity():
    linker = WindowLinker()
    names = (0, 1, 0)
    ids = [
        linker(list(n), window(n, [(names[i], 0, lambda n: 4)])).ids[0]
        for i, n in enumerate((range(5), range(4, 9), range(8, 13)))
    ]
    assert len({int(i) for i in ids}) == 1


def test_places_in_one_frame_tell_more_than_looks():
    """Where both windows see a frame, an object elsewhere in it is another one, however alike."""
    a, b = window(range(5), [(0, 0, lambda n: 2)]), window(range(4, 9), [(0, 0, lambda n: 40)])
    linker = WindowLinker()
    assert linker(list(range(5)), a).ids.tolist() == [1] and linker(list(range(4, 9)), b).ids.tolist() == [2]
    linker = WindowLinker(min_iou=None)
    assert linker(list(range(5)), a).ids.tolist() == [1] and linker(list(range(4, 9)), b).ids.tolist() == [1]


def test_without_any_evidence_each_window_begins_anew():
    found = ids_over(13, [(0, 0, lambda n: 4)], min_iou=None, min_similarity=None)
    assert [ids[0] for ids in found] == [1, 2, 3]


def test_order_of_queries_changes_the_names_of_ids_only():
    rng = np.random.default_rng(0)
    objects = [(0, 0, lambda n: 2 + n), (0, 1, lambda n: 30), (1, 2, lambda n: 52 - n // 2)]
    plain, mixed = WindowLinker(), WindowLinker()
    names = {}
    for start in range(0, 16, 4):
        numbers = list(range(start, start + 5))
        pairs, order = window(numbers, objects), rng.permutation(3)
        for a, b in zip(
            plain(numbers, pairs).ids[order].tolist(), mixed(numbers, pairs[order]).ids.tolist(), strict=True
        ):
            assert names.setdefault(a, b) == b
    assert len(set(names.values())) == len(names) == 3


def test_pairs_of_a_dense_head_are_linked_by_name_and_place():
    """They have neither class scores nor embeddings."""
    linker, seen = WindowLinker(), []
    for start in (0, 4, 20):
        numbers = list(range(start, start + 5))
        seen.append(
            linker(numbers, window(numbers, [(3, 0, lambda n: 4), (5, 0, lambda n: 40)], embeds=False)).ids.tolist()
        )
    assert seen == [[1, 2]] * 3


def test_memory_is_a_small_record_an_identity():
    """Masks of frames that no later window sees are dropped, and identities that are over once they are forgotten."""
    linker = WindowLinker(memory=30.0)
    for start in range(0, 400, 4):
        numbers = list(range(start, start + 5))
        linker(
            numbers,
            window(numbers, [(0, 0, lambda n: 4), (start % 8, start % 7, lambda n: 40 if n % 40 < 9 else None)]),
        )
        assert all(len(identity.masks) <= 6 for identity in linker._known)
    assert len(linker._known) < 12 and linker._count < 40


def test_nothing_is_found():
    linker = WindowLinker()
    empty = window(range(5), [(0, 0, lambda n: 4)])[:0]
    assert linker(list(range(5)), empty).ids.tolist() == []
    assert linker(list(range(4, 9)), window(range(4, 9), [(0, 0, lambda n: 4)])).ids.tolist() == [1]
    assert linker(list(range(8, 13)), empty).ids.tolist() == []


def test_a_pair_without_a_pixel_is_no_object():
    """It has no id, and takes none from an object that comes back elsewhere."""
    linker = WindowLinker()
    assert linker(list(range(5)), window(range(5), [(0, 0, lambda n: 4)])).ids.tolist() == [1]
    back = window(range(20, 25), [(0, 0, lambda n: None), (0, 0, lambda n: 50)])
    assert linker(list(range(20, 25)), back).ids.tolist() == [0, 1]


def test_small_objects_of_a_large_video_keep_their_ids():
    """Two of 11 pixels at 1080p, told apart by their places alone, whichever comes first."""

    def at(x):
        mask = torch.zeros(1080, 1920, dtype=torch.bool)
        mask[301:312, x : x + 11] = True
        return lambda n: mask

    linker, (a, b) = WindowLinker(), ((0, 0, at(301)), (0, 0, at(1201)))
    assert linker([0, 1], window([0, 1], [a, b])).ids.tolist() == [1, 2]
    assert linker([1, 2], window([1, 2], [b, a])).ids.tolist() == [2, 1]


@pytest.mark.parametrize(('count', 'alike'), [(1, 0), (2, 0), (3, 0), (4, 1)])
def test_few_names_are_not_compared_by_their_scores(count, alike):
    """Of two names, log scores are alike or opposite, whatever they are; that names are equal stands in."""
    scores = torch.tensor([[0.8, 0.1, 0.06, 0.04]])
    one, other = (
        InstanceData(labels=torch.tensor([0]), class_scores=scores[:, :count], query_embeds=embeds)
        for embeds in (torch.ones(1, 2), -torch.ones(1, 2))
    )
    assert alikeness(one, other, 'names') == pytest.approx(1)
    assert alikeness(one, other, 'queries') == pytest.approx(-1)
    other.labels += 1
    assert alikeness(one, other, 'names') == pytest.approx(alike)


# ------------------------------------------------------------------ objects of a window
def test_names_of_a_query_and_queries_of_an_object_are_one():
    masks = torch.stack([square(4), square(4), square(5), square(30)])[:, None]  # (M, 1, h, w)
    assert same_objects(masks) == [0, 0, 0, 3]
    assert same_objects(masks[:0]) == []


def test_a_mask_of_two_objects_is_split():
    """Those of a semantic head, and of queries that were taught one mask a name."""
    both = window(range(5), [(0, 0, lambda n: square(4) | square(40, side=10))])
    split = WindowLinker()(list(range(5)), both)
    assert split.ids.tolist() == [1, 2] and split.labels.tolist() == [0, 0]
    assert split.masks[0].sum() == 5 * 100 and torch.equal(split.masks.any(0), both.masks[0])
    whole = WindowLinker(min_part=None)(list(range(5)), both)
    assert whole.ids.tolist() == [1] and torch.equal(whole.masks, both.masks)


@pytest.mark.parametrize(
    ('frames', 'objects'),
    [
        ([square(4), square(4)], 1),
        ([square(4), square(40)], 1),  # one fast object
        ([square(4) | square(40), square(4)], 2),
        ([square(4) | square(14), square(4, side=18)], 1),  # half hidden at first
        ([square(4) | square(40, side=2), square(4)], 1),  # a speck
        ([square(4) & False, square(4) & False], 1),
    ],
)
def test_parts_of_a_mask(frames, objects):
    mask = torch.stack(frames).numpy()
    parts = split_mask(mask, 0.2)
    assert len(parts) == objects
    assert (sum(part.astype(int) for part in parts) == mask).all()


@pytest.mark.parametrize('large', [False, True])
def test_many_specks(large):
    """They stay with a large object; alone, they are objects in part, and each pixel is of one."""
    rng = np.random.default_rng(0)
    mask = np.zeros((3, 120, 160), bool)
    mask[:, ::3, ::3] = rng.random((3, 40, 54)) < 0.5
    if large:
        mask[:, :50, :50] = True
    parts = split_mask(mask, 0.2)
    assert (sum(part.astype(int) for part in parts) == mask).all()
    assert len(parts) == 1 if large else 1 < len(parts) <= 50


@pytest.mark.parametrize('size', [(24, 64), (1080, 1920), (701, 333)])
def test_masks_are_split_to_the_pixel(size):
    """Objects are looked for in small masks; what they own is exact, and so are the small masks of it."""
    rng = torch.Generator().manual_seed(0)
    mask = torch.rand(2, *size, generator=rng) > 0.5
    mask[..., size[1] // 3 : size[1] // 2] = False
    pairs = window(range(2), [(0, 0, lambda n: 4), (1, 0, lambda n: 4)])
    pairs.masks = torch.stack([mask, mask & False])
    kept = mask.clone()
    out = WindowLinker()([0, 1], pairs)
    assert out.ids.tolist() == [1, 2, 0] and out.labels.tolist() == [0, 0, 1]
    assert torch.equal(out.masks[0], kept & (torch.arange(size[1]) >= size[1] // 2))
    assert torch.equal(out.masks[1], kept & (torch.arange(size[1]) < size[1] // 3)) and not out.masks[2].any()


def test_a_small_mask_has_what_has_any_pixel():
    masks = torch.zeros(2, 3, 7, 10, dtype=torch.bool)
    masks[1, 2, 6, 9] = masks[0, 0, 3, 2] = True
    small = shrink_masks(masks, 3)
    assert small.shape == (2, 3, 3, 4) and small.nonzero().tolist() == [[0, 0, 1, 0], [1, 2, 2, 3]]
    assert torch.equal(shrink_masks(masks, 1), masks) and shrink_masks(masks[:0], 3).shape == (0, 3, 3, 4)


@pytest.mark.parametrize('score', [0.0, 0.5])
@pytest.mark.parametrize('labels', [(0, 0), (0, 1)])
@pytest.mark.parametrize('windows', [1, 2])
def test_objects_own_their_masks_whatever_their_scores(score, labels, windows):
    """Also scores of 0, which a threshold under 0 lets through."""
    blender, pairs = Blender(2), window(range(1), [(labels[0], 0, lambda n: 4), (labels[1], 1, lambda n: 40)])
    pairs.scores, pairs.ids = torch.full((2,), score), torch.tensor([1, 2])
    for _ in range(windows):
        blender.add([0], pairs)
    ((_, label_map, parts),) = blender.take(1)
    objects, object_map = frame_objects(parts, label_map)
    assert [(x.id, x.label, x.box) for x in objects] == [
        (1, labels[0], (4, 8, 12, 16)),
        (2, labels[1], (40, 8, 48, 16)),
    ]
    assert torch.equal(object_map, square(4) + 2 * square(40))


def test_label_maps_do_not_change():
    """Blended with and without ids, of random masks that split and merge."""
    rng = torch.Generator().manual_seed(0)
    linker, plain, linked, numbers = WindowLinker(), Blender(3), Blender(3), ObjectNumbers()
    seen = set()
    for start in range(0, 20, 3):
        at = list(range(start, start + 5))
        coarse = torch.rand(6, 5, 6, 8, generator=rng) > 0.7
        pairs = window(at, [(i % 3, i, lambda n: 4) for i in range(6)])
        pairs.masks = coarse.repeat_interleave(4, 2).repeat_interleave(8, 3)
        plain.add(at, pairs)
        linked.add(at, linker(at, pairs))
        for (n, a, _), (m, b, parts) in zip(plain.take(start + 3), linked.take(start + 3), strict=True):
            assert n == m and a.dtype == b.dtype and torch.equal(a, b)
            objects, object_map = frame_objects(parts, b)
            assert torch.equal(object_map > 0, b > 0)  # each labelled pixel is of an object
            assert len({x.id for x in objects}) == len(objects) == object_map.max()
            for found in numbers(objects):
                left, top, right, bottom = found.box
                inside = object_map[top:bottom, left:right] == objects.index(found) + 1
                assert inside.sum() == round(found.area * b.numel()) and inside[0].any() and inside[:, -1].any()
                seen.add((found.label, found.id, found.number))
    assert len({(label, number) for label, _, number in seen}) == len(seen) > 3  # of a name, each has its own number


# ------------------------------------------------------------------ values
@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (dict(min_iou=0), 'min_iou must be None, or above 0 and at most 1, got 0'),
        (dict(min_similarity=1.5), 'min_similarity must be None, or above 0 and at most 1, got 1.5'),
        (dict(min_part='a'), "min_part must be None, or above 0 and at most 1, got 'a'"),
        (dict(memory=-1), 'memory must be None, or above 0, got -1'),
        (dict(memory=float('nan')), 'memory must be None, or above 0, got nan'),
        (dict(min_iou=True), 'min_iou must be None, or above 0 and at most 1, got True'),
        (dict(similarity='looks'), "similarity must be one of ('names', 'queries'), got 'looks'"),
        (dict(fps=0), 'fps must be a whole number above 0, got 0'),
    ],
)
def test_wrong_values_are_named(values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        WindowLinker(**values)


def test_a_config_without_linker():
    assert linker_of(None) is None
    assert linker_of(dict(memory=None), fps=3).fps == 3


@pytest.mark.parametrize('key', ['min_iuo', 'type'])
def test_wrong_keys_are_named(key):
    with pytest.raises(ValueError, match='linker: .*(min_iuo|Gone)'):
        linker_of({key: 'Gone'})
