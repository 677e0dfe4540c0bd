# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from tiny_model import CLASSIFIER, NAMES, draw_weights
from torch.nn import functional as F

from ovavss_mm.models import InstanceTokenClassifier

FRAMES, SIZE, PAD = 3, (40, 56), (64, 64)
TOWER = dict(image_size=32, patch_size=8, width=32, layers=4, head_width=16)  # 4 x 4 patches


def make(tower: dict | None = None, **kwargs) -> InstanceTokenClassifier:
    """A classifier with drawn weights."""
    torch.manual_seed(0)
    clip = CLASSIFIER['clip_model'] | dict(vision_cfg=TOWER | (tower or {}))
    cfg = dict(CLASSIFIER, type='InstanceTokenClassifier', clip_model=clip, logit_scale=5.0, sound_thr=None)
    return draw_weights(MODELS.build(cfg | kwargs), 0.3)


@pytest.fixture(scope='module')
def frames():
    return torch.randint(0, 256, (FRAMES, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def queries():
    """Five queries at stride 4 of the padded size; mask 1 is in frame 1 only, mask 3 in the padding only."""
    masks = torch.full((5, FRAMES, 16, 16), -8.0)
    masks[0, :, 2:6, 2:5] = 8.0
    masks[1, 1, 1:8, 6:12] = 8.0
    masks[2, :2, 5:9, 1:13] = 8.0
    masks[3, :, 10:], masks[3, :, :, 14:] = 8.0, 8.0
    masks[4, 1, 0:2, 0:14] = 8.0
    return InstanceData(scores=torch.tensor([0.9, 0.5, 0.6, 0.7, 0.2]), masks=masks)


@torch.no_grad()
def token_by_hand(classifier: InstanceTokenClassifier, frame: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Embedding (D,) of a mask (h, w) in a frame: the copy has blocks of its own, beside CLIP's."""
    tower = classifier.clip_model.visual
    image = F.interpolate(frame[None].float(), (32, 32), mode='bicubic', align_corners=False)
    x = tower._embeds((image - classifier.mean) / classifier.std)[0]  # (1 + P, width)
    copy = None
    touched = (F.adaptive_max_pool2d(mask[None], 4) >= 0).flatten()
    for i, block in enumerate(tower.transformer.resblocks):
        if i == classifier.copy_after:
            copy = x[:1]
        if copy is not None:
            query = block.ln_1(copy)
            keys = torch.cat([query, block.ln_1(x[1:][touched])])
            copy = copy + block.attn(query, keys, keys)[0]
            copy = copy + block.mlp(block.ln_2(copy))
        x = block(x[:, None])[:, 0]
    return F.normalize(tower.ln_post(copy[0]) @ tower.proj, dim=0)


@pytest.mark.parametrize('copy_after', [None, 1, 2])
def test_a_token_reads_itself_and_the_patches_of_its_mask(frames, queries, copy_after):
    classifier = make(copy_after=copy_after)
    assert classifier.copy_after == (copy_after or 3)
    embeddings, valid = classifier.embed_masks(frames, queries, PAD)
    assert valid.tolist() == [[True] * 3, [False, True, False], [True, True, False], [False] * 3, [False, True, False]]
    for (query, frame), embedding in zip(valid.nonzero().tolist(), embeddings, strict=True):
        mask = queries.masks[query, frame, :10, :14]  # without padding
        torch.testing.assert_close(embedding, token_by_hand(classifier, frames[frame], mask), atol=1e-5, rtol=0)
    assert embeddings.std(0).max() > 0.01, 'masks differ'


def test_an_empty_mask_reads_itself_and_masks_have_any_size(frames):
    classifier = make(copy_after=1)
    masks = torch.full((3, 2, *SIZE), -1.0)
    masks[:, 1, 3, 5] = 0.0  # touches a patch by one pixel
    embeddings = classifier.embed_frames(frames, masks)
    assert embeddings.shape == (3, 2, 16) and embeddings.isfinite().all()
    for t in range(3):
        for i in range(2):
            expected = token_by_hand(classifier, frames[t], masks[t, i])
            torch.testing.assert_close(embeddings[t, i], expected, atol=1e-5, rtol=0)


def test_a_query_is_named_by_itself_and_in_any_order(frames, queries):
    classifier = make()
    together = classifier(frames, queries, NAMES, PAD)
    assert torch.equal(together.scores, queries.scores[[0, 1, 2, 4]])
    assert torch.allclose(together.class_scores.sum(1), torch.ones(4))
    for i, index in enumerate((0, 1, 2, 4)):
        alone = classifier(frames, queries[index : index + 1], NAMES, PAD)
        assert torch.allclose(alone.class_scores[0], together.class_scores[i], atol=1e-5)
    order = torch.tensor([2, 0, 1])
    moved = InstanceData(masks=queries.masks[:, order], scores=queries.scores)[torch.tensor([4, 2, 1, 0])]
    other = classifier(frames[order], moved, NAMES, PAD)
    assert torch.allclose(other.class_scores.flip(0), together.class_scores, atol=1e-5)


def test_score_is_the_softmax_of_the_mean_over_frames_with_a_mask(frames, queries):
    classifier = make()
    embeddings, valid = classifier.embed_masks(frames, queries, PAD)
    logits = 5 * embeddings @ classifier.text_embeddings(NAMES).T
    scores = classifier(frames, queries, NAMES, PAD).class_scores
    assert torch.allclose(scores[0], logits[:3].mean(0).softmax(0), atol=1e-6)


@pytest.mark.parametrize('which', [[], [3], [4]], ids=['no query', 'no mask', 'no sound'])
def test_nothing_to_name(frames, queries, which):
    classifier = make(sound_thr=0.5)
    named = classifier(frames, queries[torch.tensor(which, dtype=torch.long)], NAMES, PAD)
    assert len(named) == 0 and named.class_scores.shape == (0, 3) and named.masks.shape == (0, FRAMES, 16, 16)


@pytest.mark.parametrize('copies', [1, 20])
def test_a_frame_costs_one_pass_and_one_without_masks_none(frames, queries, copies):
    classifier = make(chunk_size=2)
    passes = []
    classifier.clip_model.visual.conv1.register_forward_hook(lambda module, args, out: passes.append(len(out)))
    queries.masks[:, 0] = -8.0
    many = InstanceData.cat([queries[2:3]] * copies)
    many.masks[:, 2] = 8.0  # frames 1 and 2 have masks
    named = classifier(frames, many, NAMES, PAD)
    assert passes == [2] and len(named) == copies
    assert torch.allclose(named.class_scores, named.class_scores[:1].expand(copies, -1), atol=1e-5)


@pytest.mark.parametrize('chunk_size', [1, 2])
def test_chunks_change_nothing(frames, queries, chunk_size):
    whole, parts = (make(chunk_size=n)(frames, queries, NAMES, PAD) for n in (64, chunk_size))
    assert torch.allclose(whole.class_scores, parts.class_scores, atol=1e-5)


def test_under_autocast_names_are_nearly_the_same(frames, queries):
    classifier = make()
    exact = classifier(frames, queries, NAMES, PAD).class_scores
    with torch.autocast('cpu', torch.bfloat16):
        rounded = classifier(frames, queries, NAMES, PAD).class_scores
    assert rounded.dtype == torch.float32 and torch.allclose(exact, rounded, atol=0.05)


def test_clip_is_frozen():
    assert not any(parameter.requires_grad for parameter in make().train().parameters())


@pytest.mark.parametrize(
    ('tower', 'kwargs', 'message'),
    [
        (dict(layers=[1, 1, 1, 1], image_size=64, width=8), {}, 'got ModifiedResNet'),
        (dict(pool_type='avg'), {}, 'a class token'),
        (dict(attentional_pool=True), {}, 'a class token'),
        (dict(layers=1), {}, 'got 0 of 1 blocks'),
        ({}, dict(copy_after=0), 'got 0 of 4 blocks'),
        ({}, dict(copy_after=4), 'got 4 of 4 blocks'),
    ],
)
def test_other_towers_and_numbers_are_refused(tower, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(tower, **kwargs)


def test_a_tower_of_twelve_blocks_copies_after_the_ninth():
    assert make(dict(layers=12)).copy_after == 9
