# SPDX-License-Identifier: Apache-2.0
"""Windows over streams, and what becomes of frames that two windows see."""

import pytest
import torch
from mmengine.structures import InstanceData

from ovavss_mm.models.segmentors.windows import Blender, frame_classes, group_windows


def numbers(count, length, stride, phases=1):
    """Windows of a stream of so many frames, by the frames' numbers, and when which are done."""
    groups = list(group_windows(range(count), length, stride, phases))
    for group, _ in groups:
        for window in group:
            assert window.items == window.numbers
    return [[w.numbers for w in group] for group, _ in groups], [done for _, done in groups]


def test_the_last_window_is_shifted_back_not_short():
    windows, done = numbers(12, 5, 5)
    assert windows == [[[0, 1, 2, 3, 4]], [[5, 6, 7, 8, 9]], [[7, 8, 9, 10, 11]]]
    assert done == [5, 7, 12]
    assert numbers(10, 5, 5) == ([[[0, 1, 2, 3, 4]], [[5, 6, 7, 8, 9]]], [5, 10])
    assert numbers(3, 5, 5) == ([[[0, 1, 2]]], [3])


def test_windows_with_overlap():
    windows, done = numbers(10, 5, 3)
    assert windows == [[[0, 1, 2, 3, 4]], [[3, 4, 5, 6, 7]], [[5, 6, 7, 8, 9]]]
    assert done == [3, 5, 10]
    assert numbers(5, 5, 3) == ([[[0, 1, 2, 3, 4]]], [5])


def test_phases_have_frames_a_second_apart():
    windows, done = numbers(7, 3, 2, phases=2)
    assert windows == [[[0, 2, 4], [1, 3, 5]], [[2, 4, 6], [1, 3, 5]]]
    assert done == [1, 7]


@pytest.mark.parametrize('count', [1, 2, 4, 5, 6, 9, 23])
@pytest.mark.parametrize('stride', [5, 4, 2])
@pytest.mark.parametrize('phases', [1, 3])
def test_every_frame_is_seen_before_it_is_done(count, stride, phases):
    seen = set()
    for group, done in group_windows(range(count), 5, stride, phases):
        for window in group:
            assert len(window.numbers) == 5 or count < 5 * phases
            assert all(n % phases == window.numbers[0] % phases for n in window.numbers)
            seen |= set(window.numbers)
        assert seen >= set(range(done))
    assert seen == set(range(count)) and done == count


def test_a_stream_is_read_one_stride_ahead():
    """So much shows whether another whole window follows; what is done is forgotten."""
    read = 0

    def stream():
        nonlocal read
        for i in range(1000):
            read += 1
            yield i

    for _, done in group_windows(stream(), 5, 4, 2):
        assert read - done <= 5 * 2


def test_bad_stride():
    for stride in (0, 6):
        with pytest.raises(ValueError, match=f'got {stride} and 1'):
            next(group_windows([], 5, stride))
    assert list(group_windows([], 5, 1)) == []


def drawn_pairs(num_frames, num_pairs=6, names=4):
    """Random pairs, best first, as the model paints them."""
    scores = torch.rand(num_pairs).sort(descending=True).values
    return InstanceData(
        labels=torch.randint(names, (num_pairs,)),
        scores=scores,
        sound_scores=torch.rand(num_pairs),
        masks=torch.rand(num_pairs, num_frames, 8, 9) > 0.7,
    )


def test_one_window_gives_the_models_own_map():
    # none is 255 in uint8, which means 'not annotated'
    for names, dtype in ((4, torch.uint8), (254, torch.uint8), (255, torch.int16)):
        pairs = drawn_pairs(3, names=names)
        pairs.labels[0] = names - 1
        expected = torch.zeros(3, 8, 9, dtype=dtype)
        for label, mask in zip(pairs.labels, pairs.masks, strict=True):
            expected[mask & (expected == 0)] = int(label) + 1
        blender = Blender(names)
        blender.add([0, 1, 2], pairs)
        maps = [label_map for _, label_map, _ in blender.take(3)]
        assert maps[0].dtype == dtype
        assert torch.equal(torch.stack(maps), expected) and expected.max() == names


def two_windows(first, second, at=(4, 0), length=5):
    """The frame at these positions of two windows; columns by name and score."""
    blender, frame = Blender(3), at[0]
    for found, position in ((first, at[0]), (second, at[1])):
        masks = torch.zeros(len(found), length, 1, 4, dtype=torch.bool)
        for row, (_, _, columns) in enumerate(found):
            masks[row, position, 0, columns] = True
        pairs = InstanceData(
            labels=torch.tensor([label for label, _, _ in found], dtype=torch.long),
            scores=torch.tensor([score for _, score, _ in found]),
            sound_scores=torch.tensor([score / 2 for _, score, _ in found]),
            masks=masks,
        )
        blender.add(list(range(frame - position, frame - position + length)), pairs)
    *_, (number, label_map, parts) = blender.take(frame + 1)
    assert number == frame
    return label_map[0].tolist(), frame_classes(parts, label_map)


def test_two_windows_are_averaged():
    """Equal weights: what one window labels stays; where both do, the greater mean evidence wins."""
    labels, found = two_windows([(0, 0.9, [0, 1])], [(1, 0.6, [1, 2])])
    assert labels == [1, 1, 2, 0]
    assert found[0].area == 0.5 and found[0].score == pytest.approx(0.9)
    assert found[1].sound == pytest.approx(0.3)
    labels, found = two_windows([(0, 0.9, [0])], [(0, 0.5, [0])])
    assert found[0].score == pytest.approx(0.7)
    labels, _ = two_windows([(0, 0.5, [0]), (1, 0.4, [0])], [(1, 0.5, [0])])
    assert labels[0] == 2  # 0.45 in the mean against 0.25


def test_a_frame_has_its_own_sound_score_where_there_is_one():
    pairs = InstanceData(
        labels=torch.tensor([1]),
        scores=torch.tensor([0.9]),
        sound_scores=torch.tensor([0.8]),
        masks=torch.ones(1, 2, 3, 4, dtype=torch.bool),
    )
    heard = []
    for frame_sounds in (None, torch.tensor([[0.8, 0.6]])):
        if frame_sounds is not None:
            pairs.frame_sounds = frame_sounds
        blender = Blender(2)
        blender.add([0, 1], pairs)
        heard += [frame_classes(parts, label_map)[1].sound for _, label_map, parts in blender.take(2)]
    assert heard == pytest.approx([0.8, 0.8, 0.8, 0.6])


def test_the_middle_of_a_window_weighs_more_than_its_end():
    """A frame that is third of one window (weight 3) and first of another (weight 1)."""
    labels, _ = two_windows([(0, 0.5, [0])], [(1, 0.9, [0, 1])], at=(2, 0))
    assert labels == [1, 0, 0, 0]
    labels, _ = two_windows([], [(1, 0.9, [0, 1])], at=(2, 0))
    assert labels == [0, 0, 0, 0]


def test_blender_holds_only_frames_that_wait():
    blender = Blender(4)
    most = 0
    for group, done in group_windows(range(200), 5, 4):
        for window in group:
            blender.add(window.numbers, drawn_pairs(len(window.numbers)))
        most = max(most, len(blender))
        list(blender.take(done))
        assert len(blender) <= 4
    assert most <= 8


def test_nothing_found():
    blender = Blender(2)
    empty = InstanceData(
        labels=torch.zeros(0, dtype=torch.long),
        scores=torch.zeros(0),
        sound_scores=torch.zeros(0),
        masks=torch.zeros(0, 2, 3, 4, dtype=torch.bool),
    )
    blender.add([0, 1], empty)
    blender.add([1, 2], empty)
    out = list(blender.take(3))
    assert [number for number, _, _ in out] == [0, 1, 2]
    assert not any(label_map.any() or frame_classes(parts, label_map) for _, label_map, parts in out)
