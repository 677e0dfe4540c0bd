# SPDX-License-Identifier: Apache-2.0
"""Names by one pass of CLIP a frame, pooled over masks."""

import open_clip
import pytest
import torch
from mmengine.structures import InstanceData
from tiny_model import CLASSIFIER, NAMES, draw_weights, tiny_config

from ovavss_mm.datasets import Vocabulary
from ovavss_mm.models import AVEncoderDecoder, CLIPResNet, MaskPoolingClassifier
from ovavss_mm.models.layers.mask_pooling import attention_pool

RESNET = dict(CLASSIFIER['clip_model'], vision_cfg=dict(image_size=64, layers=[1, 1, 1, 1], width=8, head_width=32))
CONVNEXT = dict(timm_model_name='convnext_atto', timm_model_pretrained=False, timm_pool='', timm_proj='linear')
CONVNEXT = dict(CLASSIFIER['clip_model'], vision_cfg=dict(CONVNEXT, image_size=64))
SIZE = (64, 96)


def make(clip_model: dict = RESNET, **kwargs: object) -> MaskPoolingClassifier:
    """A classifier with drawn weights and a factor that tells names apart."""
    torch.manual_seed(0)
    cfg = {key: CLASSIFIER[key] for key in ('tokenizer', 'templates')}
    return draw_weights(MaskPoolingClassifier(clip_model=clip_model, **(dict(logit_scale=20.0) | cfg | kwargs)))


def make_clip(queries: int = 4, frames: int = 2) -> tuple[torch.Tensor, InstanceData]:
    """Frames and queries of blocks; the last query has no mask, and the first none in the first frame."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (frames, 3, *SIZE), dtype=torch.uint8, generator=generator)
    coarse = torch.randn(queries, frames, 2, 3, generator=generator)
    coarse[-1], coarse[0, 0] = -1.0, -1.0
    masks = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)
    fields = dict(
        scores=torch.rand(queries, generator=generator), ious=torch.rand(queries, frames, generator=generator)
    )
    fields |= dict(object_logits=torch.randn(queries, frames, 2, generator=generator))
    return images, InstanceData(masks=masks, **fields)


# ------------------------------------------------------------------ pooling
def plain_attention(pool: torch.nn.Module, dense: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """One mask (h, w) of one map (c, h, w), head by head; positions of the pool's own size."""
    tokens = dense.flatten(1).T + pool.positional_embedding[1:]
    query = pool.q_proj(dense.mean((1, 2)) + pool.positional_embedding[0])
    key, value = pool.k_proj(tokens)[mask.flatten()], pool.v_proj(tokens)[mask.flatten()]
    heads = []
    for q, k, v in zip(*(x.chunk(pool.num_heads, -1) for x in (query, key, value)), strict=True):
        heads.append((k @ q / len(q) ** 0.5).softmax(0) @ v)
    return pool.c_proj(torch.cat(heads))


@torch.no_grad()
def test_attention_is_restricted_to_each_mask():
    pool = make().clip_model.visual.attnpool
    dense = torch.randn(2, 256, 2, 2)
    masks = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]]).bool().view(4, 2, 2)
    found = attention_pool(pool, dense, masks.expand(2, -1, -1, -1))
    for t, s in ((0, 0), (0, 1), (1, 1), (1, 2)):
        torch.testing.assert_close(found[t, s], plain_attention(pool, dense[t], masks[s]))
    assert not found[:, 3].any(), 'nothing of an empty mask'
    # what is outside enters by the mean alone
    other = dense.clone()
    other[:, :, 1, 0], other[:, :, 1, 1] = dense[:, :, 1, 1], dense[:, :, 1, 0]
    torch.testing.assert_close(attention_pool(pool, other, masks[:1].expand(2, -1, -1, -1)), found[:, :1])


@torch.no_grad()
def test_a_convnext_pools_a_whole_frame_as_clip_does():
    classifier = make(CONVNEXT, share_backbone=False)
    frames, queries = make_clip()
    queries.masks[1] = 1.0
    embeddings, valid = classifier.embed_masks(frames, queries, SIZE)
    images = (frames - classifier.mean) / classifier.std
    expected = torch.nn.functional.normalize(classifier.clip_model.encode_image(images), dim=-1)
    at = int(valid[0].sum())
    torch.testing.assert_close(embeddings[at : at + 2], expected)


@pytest.mark.parametrize('clip_model', [RESNET, CONVNEXT], ids=['resnet', 'convnext'])
def test_queries_frames_and_chunks_do_not_touch_each_other(clip_model):
    classifier = make(clip_model, share_backbone=False)
    frames, queries = make_clip()
    logits, valid = classifier.frame_logits(frames, queries, NAMES, SIZE)
    assert valid.tolist()[0] == [False, True] and not valid[-1].any() and not logits[~valid].any()
    classifier.chunk_size = 1
    order = torch.tensor([2, 0, 3, 1])
    some, _ = classifier.frame_logits(frames.flip(0), _in_frames(queries[order], [1, 0]), NAMES, SIZE)
    torch.testing.assert_close(some, logits[order].flip(1))
    one, _ = classifier.frame_logits(frames[1:], _in_frames(queries[2:3], [1]), NAMES, SIZE)
    torch.testing.assert_close(one, logits[2:3, 1:])


def _in_frames(queries: InstanceData, frames: list[int]) -> InstanceData:
    """The queries in some frames."""
    fields = {key: queries[key][:, frames] for key in ('masks', 'ious', 'object_logits')}
    return InstanceData(scores=queries.scores, **fields)


def test_frames_are_padded_with_zeros_after_normalising():
    classifier = make(share_backbone=False)
    frames, queries = make_clip()
    dark = torch.zeros_like(frames)
    dark[:, :, :40, :70] = frames[:, :, :40, :70]
    mean = classifier.mean.round().to(torch.uint8)
    classifier.mean.copy_(mean)  # so that a colour of 8 bits becomes 0
    filled = mean.expand_as(frames).clone()
    filled[:, :, :40, :70] = frames[:, :, :40, :70]
    found = classifier.dense_map(frames[:, :, :40, :70], SIZE)
    torch.testing.assert_close(found, classifier.dense_map(filled, SIZE))
    assert not torch.allclose(found, classifier.dense_map(dark, SIZE))


# ------------------------------------------------------------------ the backbone's map
def test_the_backbones_map_gives_what_the_own_tower_gives():
    alone, shared, backbone = make(share_backbone=False), make(), CLIPResNet(RESNET)
    state = {key.removeprefix('clip_model.'): value for key, value in alone.state_dict().items()}
    shared.load_state_dict(shared.convert_state_dict(state))
    backbone.load_state_dict(backbone.convert_state_dict(state))
    assert alone.uses_backbone is False and shared.uses_backbone is True
    sizes = [sum(p.numel() for p in module.parameters()) for module in (alone, shared, backbone)]
    assert sizes[0] == sizes[1] + sizes[2], 'every weight is in memory once'
    frames, queries = make_clip()
    expected = alone(frames, queries[:], NAMES, SIZE)
    queries.set_metainfo(dict(dense_map=backbone((frames - alone.mean) / alone.std)[-1]))
    named = shared(frames, queries, NAMES, SIZE)
    torch.testing.assert_close(named.class_scores, expected.class_scores)
    torch.testing.assert_close(named.frame_scores, expected.frame_scores)


def test_a_map_that_is_missing_or_of_another_tower_is_named():
    shared, (frames, queries) = make(), make_clip()
    with pytest.raises(ValueError, match='a map of 256 channels of the backbone, got none'):
        shared(frames, queries, NAMES, SIZE)
    queries.set_metainfo(dict(dense_map=torch.zeros(2, 64, 2, 3)))
    with pytest.raises(ValueError, match='got one of 64'):
        shared(frames, queries, NAMES, SIZE)
    classifier = dict(CLASSIFIER, _delete_=True, type='MaskPoolingClassifier', clip_model=RESNET)
    with pytest.raises(ValueError, match='of 256 channels of a CLIP, which the backbone ResNet does not give'):
        AVEncoderDecoder(**{k: v for k, v in tiny_config(classifier=classifier).items() if k != 'type'})


# ------------------------------------------------------------------ scores
def test_scores_are_those_of_the_formulas():
    classifier, (frames, queries) = make(share_backbone=False), make_clip()
    logits, _ = classifier.frame_logits(frames, queries, NAMES, SIZE)
    r, ious, objects = logits.softmax(-1), queries.ious, queries.object_logits.softmax(-1)[..., 0]
    named = classifier(frames, queries[:], NAMES, SIZE)
    for s in range(4):
        for n in range(3):
            mean = sum((r[s, t, n] * ious[s, t]) ** 0.5 for t in range(2)) / 2
            torch.testing.assert_close(named.class_scores[s, n], (queries.scores[s] * mean) ** 0.5)
            for t in range(2):
                expected = (torch.sigmoid(r[s, t, n]) * objects[s, t]) ** 0.5
                torch.testing.assert_close(named.frame_scores[s, t, n], expected)
    assert torch.equal(named.class_scores[3], named.class_scores[3, :1].expand(3)), 'an empty query is uniform'


def test_queries_without_ious_and_logits_of_frames():
    classifier, (frames, queries) = make(share_backbone=False), make_clip()
    plain = InstanceData(scores=queries.scores, masks=queries.masks)
    named = classifier(frames, plain, NAMES, SIZE)
    queries.ious[:], odds = 1.0, (queries.scores / (1 - queries.scores)).log()
    queries.object_logits = torch.stack([odds, torch.zeros_like(odds)], -1)[:, None].expand(-1, 2, -1)
    expected = classifier(frames, queries, NAMES, SIZE)
    torch.testing.assert_close(named.class_scores, expected.class_scores)
    torch.testing.assert_close(named.frame_scores, expected.frame_scores)


def test_mean_is_the_softmax_of_mean_logits_of_queries_that_have_a_mask():
    classifier, (frames, queries) = make(share_backbone=False, combine='mean', sound_thr=0.0), make_clip()
    logits, _ = classifier.frame_logits(frames, queries, NAMES, SIZE)
    named = classifier(frames, queries[:], NAMES, SIZE)
    assert len(named) == 3 and 'frame_scores' not in named
    torch.testing.assert_close(named.class_scores[0], logits[0, 1].softmax(-1))
    torch.testing.assert_close(named.class_scores[1:], logits[1:3].mean(1).softmax(-1))


@pytest.mark.parametrize('combine', ['clip_vis', 'mean'])
def test_nothing_to_name(combine):
    classifier, (frames, queries) = make(share_backbone=False, combine=combine, sound_thr=1.0), make_clip()
    named = classifier(frames, queries, NAMES, SIZE)
    assert named.class_scores.shape == (0, 3) and named.masks.shape[:2] == (0, 2)


def test_a_name_has_the_greatest_logit_of_its_synonyms():
    frames, queries = make_clip()
    vocabulary = Vocabulary(NAMES, synonyms={NAMES[1]: ['tabby', 'puss']})
    classifier = make(share_backbone=False)
    logits, valid = classifier.frame_logits(frames, queries, vocabulary, SIZE)
    words, _ = classifier.frame_logits(frames, queries, [NAMES[0], NAMES[1], 'tabby', 'puss', NAMES[2]], SIZE)
    expected = torch.stack([words[..., 0], words[..., 1:4].amax(-1), words[..., 4]], -1)
    torch.testing.assert_close(logits, expected)
    mean, _ = make(share_backbone=False, synonyms='mean').frame_logits(frames, queries, vocabulary, SIZE)
    embeddings, _ = classifier.embed_masks(frames, queries, SIZE)
    torch.testing.assert_close(mean[valid], 20 * embeddings @ classifier.text_embeddings(vocabulary).T)


def test_the_models_own_factor_is_bounded():
    frames, queries = make_clip()
    classifier = make(share_backbone=False, logit_scale=None)
    for value, expected in ((1.0, 2.718281828), (9.0, 100.0)):
        classifier.clip_model.logit_scale.fill_(value)
        logits, _ = classifier.frame_logits(frames, queries, NAMES, SIZE)
        other, _ = make_like(classifier, expected).frame_logits(frames, queries, NAMES, SIZE)
        torch.testing.assert_close(logits, other)


def make_like(classifier: MaskPoolingClassifier, logit_scale: float) -> MaskPoolingClassifier:
    """The same weights with a factor of its own."""
    other = make(share_backbone=False, logit_scale=logit_scale)
    other.load_state_dict(classifier.state_dict())
    return other


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(combine='sum'), "combine must be one of .* got 'sum'"),
        (dict(synonyms='min'), "synonyms of .* and 'min'"),
        (
            dict(clip_model=CLASSIFIER['clip_model'], share_backbone=False),
            'a ResNet, or without share_backbone one with',
        ),
        (dict(clip_model=CONVNEXT), 'share_backbone=True'),
    ],
)
def test_wrong_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


def test_weights_of_an_archive_go_where_they_belong(tmp_path):
    torch.manual_seed(3)
    clip = open_clip.CLIP(**RESNET).eval()
    torch.save(clip.state_dict(), tmp_path / 'clip.pth')
    shared = make(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'clip.pth')))
    shared.init_weights()
    assert torch.equal(shared.clip_model.visual.attnpool.c_proj.weight, clip.visual.attnpool.c_proj.weight)
    assert torch.equal(shared.clip_model.text_projection, clip.text_projection) and not shared.state_dict()
