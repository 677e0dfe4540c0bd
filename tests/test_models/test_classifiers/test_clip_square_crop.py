# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from tiny_model import CLASSIFIER, NAMES, draw_weights
from torch.nn import functional as F

from ovavss_mm.models import CLIPSquareCropClassifier

FRAMES, SIZE, PAD = 3, (40, 60), (64, 64)


def make(**kwargs) -> CLIPSquareCropClassifier:
    """A classifier that is never quite sure."""
    torch.manual_seed(0)
    classifier = MODELS.build(CLASSIFIER | dict(logit_scale=5.0) | kwargs)
    draw_weights(classifier.clip_model.visual, 0.5)  # one that sees something
    return classifier


@pytest.fixture(scope='module')
def frames():
    draw = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (FRAMES, 3, *SIZE), dtype=torch.uint8, generator=draw)


@pytest.fixture
def queries():
    """Five queries at stride 4 of the padded size; mask 1 is in frame 1 only, mask 3 nowhere."""
    masks = torch.full((5, FRAMES, 16, 16), -8.0)
    masks[0, :, 2:6, 2:5] = 8.0
    masks[1, 1, 1:8, 6:12] = 8.0
    masks[2, :2, 5:9, 1:13] = 8.0
    masks[4, 2, 0:2, 0:14] = 8.0
    masks = masks + 0.1 * torch.randn(masks.shape)
    scores = torch.tensor([0.9, 0.5, 0.6, 0.7, 0.2])
    return InstanceData(scores=scores, masks=masks)


# ------------------------------------------------------------------ which queries
@pytest.mark.parametrize(('sound_thr', 'kept'), [(0.5, [0, 2]), (None, [0, 1, 2, 4]), (0.0, [0, 1, 2, 4]), (0.85, [0])])
def test_sounding_queries_with_a_mask_are_named(frames, queries, sound_thr, kept):
    before = queries.clone()
    named = make(sound_thr=sound_thr)(frames, queries, NAMES, PAD)
    assert torch.equal(named.scores, queries.scores[kept])
    assert torch.equal(named.masks, queries.masks[kept])
    assert named.class_scores.shape == (len(kept), 3)
    assert torch.allclose(named.class_scores.sum(1), torch.ones(len(kept)))
    assert queries.keys() == before.keys() and len(queries) == 5, 'what came in is not touched'


@pytest.mark.parametrize('which', [[], [3], [4]], ids=['no query', 'no mask', 'no sound'])
def test_nothing_to_name(frames, queries, which):
    named = make(sound_thr=0.5)(frames, queries[torch.tensor(which, dtype=torch.long)], NAMES, PAD)
    assert len(named) == 0 and named.class_scores.shape == (0, 3)
    assert named.masks.shape == (0, FRAMES, 16, 16) and named.scores.shape == (0,)


def test_padding_counts_only_where_the_config_says_so(frames, queries):
    queries.masks[3, 0, 12:, :] = 8.0  # below row 40, where frames end
    kept = {
        size: len(make(sound_thr=0.65, mask_size=size)(frames, queries, NAMES, PAD)) for size in ('image', 'padded')
    }
    assert kept == dict(image=1, padded=2)


# ------------------------------------------------------------------ scores
def test_score_is_the_softmax_of_the_mean_over_frames_with_a_mask(frames, queries):
    classifier = make(sound_thr=None)
    text = classifier.text_embeddings(NAMES)
    named = classifier(frames, queries, NAMES, PAD)
    for scores, masks in zip(named.class_scores, queries.masks[[0, 1, 2, 4]], strict=True):
        logits = []
        for t in range(FRAMES):
            mask = F.interpolate(masks[t][None, None], PAD, mode='bilinear', align_corners=False)
            mask = mask[0, :, : SIZE[0], : SIZE[1]].sigmoid()
            if (mask > 0.5).any():
                crop = classifier.crop(frames, torch.tensor([t]), mask)
                image = crop / 255 - torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
                image = image / torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
                embedding = classifier.clip_model.encode_image(image)[0]
                logits.append(5 * F.cosine_similarity(embedding[None], text))
        expected = (sum(logits) / len(logits)).softmax(0)
        assert torch.allclose(scores, expected, atol=1e-4)
    assert named.class_scores.std(0).max() > 0.01, 'queries differ'


@pytest.mark.parametrize('chunk_size', [1, 2, 7])
def test_chunks_change_nothing(frames, queries, chunk_size):
    whole = make(sound_thr=None)(frames, queries, NAMES, PAD)
    parts = make(sound_thr=None, chunk_size=chunk_size)(frames, queries, NAMES, PAD)
    assert torch.allclose(whole.class_scores, parts.class_scores, atol=1e-5)
    assert torch.equal(whole.scores, parts.scores)


def test_at_most_a_chunk_of_crops_is_encoded_at_a_time(frames, queries, monkeypatch):
    classifier = make(sound_thr=None, chunk_size=2)
    sizes, encode = [], classifier.clip_model.encode_image
    monkeypatch.setattr(classifier.clip_model, 'encode_image', lambda x: (sizes.append(len(x)), encode(x))[1])
    classifier(frames, queries, NAMES, PAD)
    assert max(sizes) == 2 and sum(sizes) == 3 + 1 + 2 + 1  # masks with a pixel


def test_a_query_is_named_by_itself(frames, queries):
    classifier = make(sound_thr=None)
    together = classifier(frames, queries, NAMES, PAD)
    for i, index in enumerate((0, 1, 2, 4)):
        alone = classifier(frames, queries[torch.tensor([index])], NAMES, PAD)
        assert torch.allclose(alone.class_scores[0], together.class_scores[i], atol=1e-5)


def test_order_of_names_orders_the_scores(frames, queries):
    classifier = make(sound_thr=None)
    scores = classifier(frames, queries, NAMES, PAD).class_scores
    flipped = classifier(frames, queries, NAMES[::-1], PAD).class_scores
    assert torch.allclose(scores.flip(1), flipped, atol=1e-6)


def test_a_single_name_is_certain(frames, queries):
    scores = make()(frames, queries, ['dog'], PAD).class_scores
    assert scores.tolist() == [[1.0], [1.0]]


def test_pixels_far_from_the_mask_do_not_count(frames, queries):
    queries.masks = queries.masks.sign() * 200  # probabilities of 0 and 1
    classifier = make(sound_thr=None)
    expected = classifier(frames, queries[:1], NAMES, PAD).class_scores
    other = frames.clone()
    other[:, :, 32:], other[..., 26:] = 255 - other[:, :, 32:], 255 - other[..., 26:]
    assert torch.equal(expected, classifier(other, queries[:1], NAMES, PAD).class_scores)
    other[:, :, 10:20, 10:16] = 255
    assert not torch.allclose(expected, classifier(other, queries[:1], NAMES, PAD).class_scores)


# ------------------------------------------------------------------ the best frames
def test_the_best_frame_has_the_largest_area_times_confidence(frames, queries):
    """As if the query had a mask in no other frame; area and confidence each decide where the other is equal."""
    masks = torch.full((3, FRAMES, 16, 16), -8.0)
    masks[:2, :, 2:5, 2:5] = 2.0
    masks[0, 1, 2:5, 2:8] = 2.0  # larger
    masks[1, 2, 2:5, 2:5] = 6.0  # surer
    masks[2, 0, 2:4, 2:4], masks[2, 1, 2:10, 2:10] = 8.0, 1.0  # larger by more than it is less sure
    queries = InstanceData(masks=masks, scores=torch.ones(3))
    best = make(crops='best')(frames, queries, NAMES, PAD)
    for query, frame in enumerate((1, 2, 1)):
        other = torch.arange(FRAMES) != frame
        kept = InstanceData(masks=masks[query : query + 1].clone(), scores=torch.ones(1))
        kept.masks[:, other] = -8.0
        alone = make()(frames, kept, NAMES, PAD).class_scores
        torch.testing.assert_close(best.class_scores[query], alone[0])
    assert not torch.allclose(best.class_scores, make()(frames, queries, NAMES, PAD).class_scores)
    assert torch.equal(best.masks, queries.masks), 'masks of other frames are painted as before'


@pytest.mark.parametrize('num_best', [FRAMES, FRAMES + 4])
def test_as_many_best_frames_as_there_are_change_nothing(frames, queries, num_best):
    plain = make(sound_thr=None)(frames, queries, NAMES, PAD)
    best = make(sound_thr=None, crops='best', num_best=num_best)(frames, queries, NAMES, PAD)
    assert torch.equal(best.class_scores, plain.class_scores)


def test_the_best_of_one_frame_is_that_frame(frames, queries):
    queries.masks = queries.masks[:, :1]
    plain, best = (make(sound_thr=None, **k)(frames[:1], queries, NAMES, PAD) for k in ({}, dict(crops='best')))
    assert torch.equal(best.class_scores, plain.class_scores) and len(best) == 2


@pytest.mark.parametrize('num_best', [1, 2])
def test_best_frames_do_not_depend_on_order_and_company(frames, queries, num_best, monkeypatch):
    classifier = make(sound_thr=None, crops='best', num_best=num_best, chunk_size=2)
    sizes, encode = [], classifier.clip_model.encode_image
    monkeypatch.setattr(classifier.clip_model, 'encode_image', lambda x: (sizes.append(len(x)), encode(x))[1])
    named = classifier(frames, queries, NAMES, PAD)
    assert sum(sizes) == sum(min(num_best, frames_with_mask) for frames_with_mask in (3, 1, 2, 1))
    order = torch.tensor([2, 0, 1])
    moved = InstanceData(masks=queries.masks[:, order], scores=queries.scores)
    assert torch.allclose(classifier(frames[order], moved, NAMES, PAD).class_scores, named.class_scores, atol=1e-5)
    for i, index in enumerate((0, 1, 2, 4)):
        alone = classifier(frames, queries[torch.tensor([index])], NAMES, PAD)
        assert torch.allclose(alone.class_scores[0], named.class_scores[i], atol=1e-5)
    none = classifier(frames, queries[torch.zeros(0, dtype=torch.long)], NAMES, PAD)
    assert none.class_scores.shape == (0, 3)
    assert len(classifier(frames, queries[3:4], NAMES, PAD)) == 0, 'no mask in any frame'


# ------------------------------------------------------------------ the module
def test_clip_is_frozen_and_crops_have_its_size(frames):
    classifier = make().train()
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    assert not any(module.training for module in classifier.modules())
    assert classifier.image_size == 16
    crop = classifier.crop(frames, torch.tensor([0]), torch.ones(1, *SIZE))
    assert crop.shape == (1, 3, 16, 16)
    assert classifier.encode(crop).norm().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ('bad', 'message'),
    [
        (dict(anchor='top'), "got 'square', 'top'"),
        (dict(crop='round'), "got 'round'"),
        (dict(mask_size='full'), "'full'"),
        (dict(crops='some'), "got 'some' and 1"),
        (dict(crops='best', num_best=0), "got 'best' and 0"),
    ],
)
def test_arguments_are_checked(bad, message):
    with pytest.raises(ValueError, match=message):
        make(**bad)


def test_masks_of_frames_in_which_a_query_is_silent_are_dropped(frames, queries):
    """A query is named by the frames in which it sounds, and is there in no other."""
    queries.frame_sounds = queries.scores[:, None] * torch.tensor([1.0, 0.7, 0.9])
    classifier = make(sound_thr=0.5)
    named = classifier(frames, queries, NAMES, PAD)
    assert torch.equal(named.scores, queries.scores[[0, 2]])
    inside = (named.masks > 0).flatten(2).any(-1)
    assert inside.tolist() == [[True, True, True], [True, False, False]], 'of the second one 0.6 * 0.7 is under 0.5'
    cut = InstanceData(scores=queries.scores[[2]], masks=queries.masks[[2]][:, :1])
    alone = classifier(frames[:1], cut, NAMES, PAD)
    assert torch.allclose(named.class_scores[1], alone.class_scores[0], atol=1e-5)
    everything = make(sound_thr=None)(frames, queries, NAMES, PAD)
    assert torch.equal(everything.masks, queries.masks[[0, 1, 2, 4]]), 'without a threshold nothing is dropped'
