# SPDX-License-Identifier: Apache-2.0
"""Sam4AVS chains three parts: with parts whose answers are known, the label map is known too."""

from collections.abc import Callable, Sequence

import pytest
import torch
from mmengine.structures import InstanceData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ovavss_mm.datasets.vocabulary import Vocabulary
from ovavss_mm.models import Sam4AVS

NAMES = Vocabulary(['dog', 'emergency-car', 'bird'], synonyms=dict(bird=['duck']))
SIZE = (6, 8)
DOG, CAR, BIRD = (0.9, 0.1, -0.2), (-0.1, 0.8, 0.2), (0.1, 0.2, 0.7)
LEFT, MIDDLE, RIGHT = (0, 0, 4, 6), (2, 0, 6, 6), (5, 0, 8, 6)


class Namer(nn.Module):
    """Whose sound (T, n) says the cosines itself."""

    open_vocabulary = True

    def __init__(self) -> None:
        super().__init__()
        self.heard = []

    def spoken(self, name: str) -> str:
        return name.replace('-', ' ')

    def scores(self, audio: Tensor, names: Sequence[str]) -> Tensor:
        self.heard += audio.tolist()
        return audio[:, : len(names)]

    def truncated_words(self, vocabulary: Vocabulary) -> list[str]:
        return [word for word in vocabulary.words if len(word) > 20]


class Proposer(nn.Module):
    """Who knows the boxes of names in frames of one value; a box is ``(left, top, right, bottom, score)``."""

    def __init__(self, boxes: dict[tuple[int, str], list[tuple]]) -> None:
        super().__init__()
        self.known, self.asked = boxes, []

    def truncated_words(self, words: Sequence[str]) -> list[str]:
        return [word for word in words if len(word) > 12]

    def forward(self, frames: Tensor, pairs: Sequence[tuple[int, str]]) -> list[InstanceData]:
        assert {t for t, _ in pairs} == set(range(len(frames)))
        keys = [(int(frames[t, 0, 0, 0]), word) for t, word in pairs]
        self.asked += keys
        found = [torch.tensor(self.known.get(key, [])).view(-1, 5) for key in keys]
        return [InstanceData(boxes=rows[:, :4], scores=rows[:, 4]) for rows in found]


class Masker(nn.Module):
    """Whose masks are the boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedded, self.decoded = [], []

    def embed(self, frames: Tensor) -> Tensor:
        self.embedded += frames[:, 0, 0, 0].tolist()
        return frames[:, :1, :1, :1]

    def forward(self, embedding: Tensor, boxes: Tensor, frame_shape: tuple, out_shape: tuple) -> tuple[Tensor, Tensor]:
        self.decoded += [(int(embedding), *map(int, box)) for box in boxes]
        masks = -torch.ones(len(boxes), *out_shape)
        for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
        return masks, boxes[:, 0]


@pytest.fixture
def build() -> Callable[..., Sam4AVS]:
    """Makes the model of what its proposer knows."""

    def make(boxes: dict, **keys) -> Sam4AVS:
        parts = dict(namer=dict(type=Namer), proposer=dict(type=Proposer, boxes=boxes), masker=dict(type=Masker))
        processor = dict(type='AVSegDataPreProcessor', mean=[0, 0, 0], std=[1, 1, 1], size_divisor=1)
        return Sam4AVS(**parts, data_preprocessor=processor, **keys).eval()

    return make


def run(model: Sam4AVS, *clips: tuple, vocabulary: Sequence[str] = NAMES, **meta) -> list[SegDataSample]:
    """Segment clips, each of the values of its frames and the cosines of its sounds."""
    imgs = [torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, *SIZE) for values, _ in clips]
    audio = [torch.tensor(sounds) for _, sounds in clips]
    samples = [SegDataSample(metainfo=dict(vocabulary=vocabulary, ori_shape=SIZE, **meta)) for _ in clips]
    with torch.no_grad():
        return model.test_step(dict(inputs=dict(imgs=imgs, audio=audio), data_samples=samples))


def columns(sample: SegDataSample, frame: int = 0) -> list[int]:
    """The label map of a frame, whose rows are all equal here."""
    (row,) = sample.pred_sem_seg.data[frame].unique(dim=0).tolist()
    return row


# ------------------------------------------------------------------ the answer
def test_the_better_box_is_painted_first_and_a_taken_pixel_stays_taken(build):
    model = build({(1, 'dog'): [(*LEFT, 0.5)], (1, 'bird'): [(*MIDDLE, 0.7)], (1, 'emergency car'): [(*RIGHT, 0.99)]})
    (sample,) = run(model, ([1], [(0.9, 0.1, 0.4)]), subset='v2')
    assert columns(sample) == [1, 1, 3, 3, 3, 3, 0, 0], 'the third name is not looked for'
    pairs = sample.pred_queries
    assert pairs.labels.tolist() == [2, 0] and pairs.frames.tolist() == [0, 0]
    assert pairs.boxes.tolist() == [list(MIDDLE), list(LEFT)]
    torch.testing.assert_close(pairs.scores, torch.tensor([0.7, 0.5]))
    torch.testing.assert_close(pairs.sound_scores, torch.tensor([0.4, 0.9]))


@pytest.mark.parametrize(('order', 'expected', 'scores'), [('sound', 1, [0.9, 0.4]), ('product', 1, [0.45, 0.28])])
def test_the_order_may_be_that_of_the_sound(build, order, expected, scores):
    model = build({(1, 'dog'): [(*LEFT, 0.5)], (1, 'bird'): [(*MIDDLE, 0.7)]}, order=order)
    (sample,) = run(model, ([1], [(0.9, 0.1, 0.4)]), subset='v2')
    assert columns(sample) == [expected] * 4 + [3, 3, 0, 0]
    torch.testing.assert_close(sample.pred_queries.scores, torch.tensor(scores))


def test_the_name_is_that_of_each_second_and_of_as_many_as_the_subset_says(build):
    boxes = {(v, name): [(*box, 0.6)] for v in (1, 2) for name, box in (('dog', LEFT), ('emergency car', RIGHT))}
    clip = ([1, 2, 1], [DOG, CAR, (0.5, 0.4, 0.0)])
    (single,), (several,) = (run(build(boxes), clip, subset=subset) for subset in ('v1s', 'v2'))
    dog, car, both = [1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 2, 2, 2], [1, 1, 1, 1, 0, 2, 2, 2]
    assert [columns(single, t) for t in range(3)] == [dog, car, dog]
    assert [columns(several, t) for t in range(3)] == [both, car, both], 'the second name of the second is a bird'
    (own,) = run(build(boxes), clip)
    assert torch.equal(own.pred_sem_seg.data, several.pred_sem_seg.data), 'of no subset: the greatest number'


def test_notes_tell_of_each_frame_what_it_was_made_of(build):
    model = build({(1, 'dog'): [(*LEFT, 0.4), (*RIGHT, 0.6)]})
    (sample,) = run(model, ([1, 2], [DOG, BIRD]), subset='v1s')
    first, second = sample.frame_notes
    assert (first['names'], first['boxes']) == (['dog'], [list(RIGHT), list(LEFT)])
    assert first['box_names'] == ['dog', 'dog'] and first['box_scores'] == pytest.approx([0.6, 0.4])
    assert second == dict(second, names=['bird'], boxes=[], box_names=[], box_scores=[])
    assert first['name_scores'] + second['name_scores'] == pytest.approx([0.9, 0.7])


def test_a_box_of_a_synonym_is_one_of_the_name(build):
    (sample,) = run(build({(1, 'duck'): [(*RIGHT, 0.5)]}), ([1], [BIRD]), subset='v1s')
    assert columns(sample) == [0] * 5 + [3] * 3


@pytest.mark.parametrize(('sounding', 'expected'), [((), 0), (('dog',), 1), (('dog', 'off-the-screen'), 2)])
def test_oracle_looks_for_as_many_names_as_the_clip_has(build, sounding, expected):
    model = build({}, num_names='oracle')
    (sample,) = run(model, ([1], [DOG]), names=sounding)
    assert sample.frame_notes[0]['names'] == ['dog', 'emergency-car'][:expected]
    with pytest.raises(ValueError, match='needs the names of a clip'):
        run(model, ([1], [DOG]))


def test_a_least_score_of_names_leaves_silent_seconds_empty(build):
    boxes = {(1, 'dog'): [(*LEFT, 0.5)]}
    clip = ([1, 1], [DOG, (0.02, 0.01, 0.0)])
    (published,), (extended,) = (run(build(boxes, min_name_score=least), clip) for least in (None, 0.1))
    assert [sum(columns(published, t)) for t in range(2)] == [4, 4], 'as published: silence has names'
    assert [sum(columns(extended, t)) for t in range(2)] == [4, 0]
    assert extended.frame_notes[1]['names'] == []


def test_nothing_heard_or_seen_is_an_empty_map(build):
    for model in (build({}), build({}, min_name_score=1.0)):
        (sample,) = run(model, ([1, 2], [DOG, CAR]))
        assert not sample.pred_sem_seg.data.any() and len(sample.pred_queries) == 0
        assert sample.pred_sem_seg.data.shape == (2, *SIZE)


# ------------------------------------------------------------------ clips
def test_batched_is_single_and_windows_do_not_show(build):
    boxes = {(v, name): [(*LEFT, 0.5), (*RIGHT, 0.1 * v)] for v in range(9) for name in ('dog', 'emergency car')}
    sounds = [DOG, CAR, BIRD, (0.2, 0.3, 0.1), CAR]
    clips = [(list(range(5)), sounds), ([3], [CAR]), ([0, *range(9)], sounds * 2)]
    expected = [run(build(boxes), clip)[0].pred_sem_seg.data for clip in clips]
    assert [len(x) for x in expected] == [5, 1, 10] and all(x.any() for x in expected)
    windows = dict(window=4, stride=3)
    for cfg in (None, dict(mode='whole'), windows, dict(window=1)):
        for sample, data in zip(run(build(boxes, test_cfg=cfg), *clips), expected, strict=True):
            assert torch.equal(sample.pred_sem_seg.data, data)


def test_nothing_is_gone_through_twice_in_a_clip(build):
    model = build({(v, name): [(*LEFT, 0.5), (*RIGHT, 0.4)] for v in (1, 2) for name in ('dog', 'emergency car')})
    (sample,) = run(model, ([1, 2, 1, 1, 2], [DOG, DOG, DOG, CAR, BIRD]), subset='v1s')
    assert len(model.sound_namer.heard) == 3
    assert sorted(model.proposer.asked) == [(1, 'dog'), (1, 'emergency car'), (2, 'bird'), (2, 'dog'), (2, 'duck')]
    assert model.masker.embedded == [1, 2] and len(model.masker.decoded) == 6
    assert [columns(sample, t)[0] for t in range(5)] == [1, 1, 1, 2, 0]


def test_a_frame_keeps_its_best_boxes(build):
    model = build({(1, 'dog'): [(*LEFT, 0.4), (*RIGHT, 0.6)]}, test_cfg=dict(max_pairs=1))
    (sample,) = run(model, ([1, 1], [DOG, DOG]), subset='v1s')
    assert [columns(sample, t) for t in range(2)] == [[0] * 5 + [1] * 3] * 2
    assert not run(build(model.proposer.known, test_cfg=dict(score_thr=0.6)), ([1], [DOG]))[0].pred_sem_seg.data.any()


# ------------------------------------------------------------------ names and keys
def test_five_hundred_names(build):
    names = Vocabulary([f'name {i}' for i in range(500)])
    sound = torch.zeros(500)
    sound[499] = 0.5
    (sample,) = run(build({(1, 'name 499'): [(*LEFT, 0.5)]}, num_names=1), ([1], [sound.tolist()]), vocabulary=names)
    assert columns(sample) == [500] * 4 + [0] * 4 and sample.pred_sem_seg.data.dtype == torch.int16


def test_a_name_that_either_part_cuts_is_told(build):
    words = Vocabulary(['dog', 'a-long-long-long-name', 'emergency-car'])
    assert build({}).truncated_words(words) == ['a-long-long-long-name', 'emergency-car']


def test_bad_keys_are_named(build):
    for keys, message in (
        (dict(num_names=0), 'num_names must be .* got 0'),
        (dict(num_names=dict(v1s=1.5)), "'v1s': 1.5"),
        (dict(order='best'), "order must be one of box, sound, product, got 'best'"),
        (dict(min_name_score=2), r'in \[-1, 1\], got 2'),
    ):
        with pytest.raises(ValueError, match=message):
            build({}, **keys)
