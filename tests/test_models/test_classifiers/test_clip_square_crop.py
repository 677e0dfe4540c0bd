# SPDX-License-Identifier: Apache-2.0
import weakref

import pytest
import torch
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from safetensors.torch import save_file
from tiny_model import CLASSIFIER, NAMES, draw_weights
from torch.nn import functional as F

from ovavss_mm.models import CLIPSquareCropClassifier
from ovavss_mm.models.classifiers import clip_square_crop

FRAMES, SIZE, PAD = 3, (40, 60), (64, 64)


def make(**kwargs) -> CLIPSquareCropClassifier:
    """A classifier that is never quite sure."""
    torch.manual_seed(0)
    classifier = MODELS.build(CLASSIFIER | dict(logit_scale=5.0) | kwargs)
    draw_weights(classifier.clip.visual, 0.5)  # one that sees something
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
    return InstanceData(sound_scores=scores, masks=masks)


# ------------------------------------------------------------------ which queries
@pytest.mark.parametrize(
    ('sound_thr', 'kept'), [(0.5, [0, 2]), (None, [0, 1, 2, 4]), (0.0, [0, 1, 2, 4]), (0.85, [0])]
)
def test_sounding_queries_with_a_mask_are_named(frames, queries, sound_thr, kept):
    before = queries.clone()
    named = make(sound_thr=sound_thr)(frames, queries, NAMES, PAD)
    assert torch.equal(named.sound_scores, queries.sound_scores[kept])
    assert torch.equal(named.masks, queries.masks[kept])
    assert named.class_scores.shape == (len(kept), 3)
    assert torch.allclose(named.class_scores.sum(1), torch.ones(len(kept)))
    assert queries.keys() == before.keys() and len(queries) == 5, 'what came in is not touched'


@pytest.mark.parametrize('which', [[], [3], [4]], ids=['no query', 'no mask', 'no sound'])
def test_nothing_to_name(frames, queries, which):
    named = make(sound_thr=0.5)(frames, queries[torch.tensor(which, dtype=torch.long)], NAMES, PAD)
    assert len(named) == 0 and named.class_scores.shape == (0, 3)
    assert named.masks.shape == (0, FRAMES, 16, 16) and named.sound_scores.shape == (0,)


def test_padding_counts_only_where_the_config_says_so(frames, queries):
    queries.masks[3, 0, 12:, :] = 8.0  # below row 40, where frames end
    kept = {
        size: len(make(sound_thr=0.65, mask_size=size)(frames, queries, NAMES, PAD))
        for size in ('image', 'padded')
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
                embedding = classifier.clip.encode_image(image)[0]
                logits.append(5 * F.cosine_similarity(embedding[None], text))
        expected = (sum(logits) / len(logits)).softmax(0)
        assert torch.allclose(scores, expected, atol=1e-4)
    assert named.class_scores.std(0).max() > 0.01, 'queries differ'


@pytest.mark.parametrize('chunk_size', [1, 2, 7])
def test_chunks_change_nothing(frames, queries, chunk_size):
    whole = make(sound_thr=None)(frames, queries, NAMES, PAD)
    parts = make(sound_thr=None, chunk_size=chunk_size)(frames, queries, NAMES, PAD)
    assert torch.allclose(whole.class_scores, parts.class_scores, atol=1e-5)
    assert torch.equal(whole.sound_scores, parts.sound_scores)


def test_at_most_a_chunk_of_crops_is_encoded_at_a_time(frames, queries, monkeypatch):
    classifier = make(sound_thr=None, chunk_size=2)
    sizes, encode = [], classifier.clip.encode_image
    monkeypatch.setattr(
        classifier.clip, 'encode_image', lambda x: (sizes.append(len(x)), encode(x))[1]
    )
    classifier(frames, queries, NAMES, PAD)
    assert sizes == [2, 2, 2, 1]  # 3 + 1 + 2 + 1 masks with a pixel


def test_equal_crops_are_encoded_once(frames, queries, monkeypatch):
    """Queries that are repeated, and a mask on a still picture."""
    frames = frames[:1].expand(FRAMES, -1, -1, -1)
    queries.masks[0] = queries.masks[0, 0]
    classifier = make(sound_thr=None)
    expected = classifier(frames, queries, NAMES, PAD).class_scores
    sizes, encode = [], classifier.clip.encode_image
    monkeypatch.setattr(
        classifier.clip, 'encode_image', lambda x: (sizes.append(len(x)), encode(x))[1]
    )
    twice = InstanceData.cat([queries, queries])
    scores = classifier(frames, twice, NAMES, PAD).class_scores
    assert torch.allclose(scores, torch.cat([expected, expected]), atol=1e-5)
    assert sum(sizes) == 1 + 1 + 2 + 1


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


# ------------------------------------------------------------------ text
@pytest.fixture
def calls(monkeypatch):
    """Prompts that were tokenized."""
    prompts = []

    class Spy(clip_square_crop.SimpleTokenizer):
        def __call__(self, texts):
            prompts.append(texts)
            return super().__call__(texts)

    monkeypatch.setattr(clip_square_crop, 'SimpleTokenizer', Spy)
    return prompts


def test_a_vocabulary_is_embedded_once(calls):
    classifier = make()
    assert not calls, 'not in the constructor'
    first = classifier.text_embeddings(NAMES)
    assert torch.equal(first, classifier.text_embeddings(list(NAMES))) and len(calls) == 1
    classifier.text_embeddings(NAMES[:2])
    assert len(calls) == 2
    classifier.text_embeddings(NAMES)
    assert len(calls) == 2
    assert calls[1] == ['a dog.', 'the dog', 'a cat.', 'the cat']


def test_memory_of_vocabularies_is_bounded():
    classifier = make()
    first = classifier.text_embeddings(['name 0'])
    for i in range(40):
        classifier.text_embeddings([f'name {i}'])
    assert len(classifier._embeddings) <= 16
    assert torch.allclose(first, classifier.text_embeddings(['name 0']), atol=1e-6)


def test_embeddings_are_of_the_weights_that_are_there(tmp_path):
    stranger = make()
    torch.nn.init.normal_(stranger.clip.text_projection)
    expected = stranger.text_embeddings(NAMES)
    loaded = make()
    loaded.text_embeddings(NAMES)
    loaded.load_state_dict(stranger.state_dict())
    assert torch.equal(loaded.text_embeddings(NAMES), expected)

    save_file(stranger.clip.state_dict(), tmp_path / 'clip.safetensors')
    path = str(tmp_path / 'clip.safetensors')
    read = make(init_cfg=dict(type='Pretrained', checkpoint=path))
    read.text_embeddings(NAMES)
    read.init_weights()
    assert torch.equal(read.text_embeddings(NAMES), expected)
    assert not read.state_dict()


@pytest.mark.parametrize('names', [[], ['dog', 'dog'], ['dog', ' '], 'dog'])
def test_bad_vocabularies_are_refused_each_time(names):
    classifier = make()
    for _ in range(2):
        with pytest.raises(ValueError, match='name'):
            classifier.text_embeddings(names)


def test_openai_weights_fit(tmp_path):
    classifier = make()
    numbers = dict.fromkeys(('input_resolution', 'context_length', 'vocab_size'), torch.tensor(1))
    state = {**classifier.clip.state_dict(), **numbers}
    assert classifier.convert_state_dict(state).keys() == classifier.state_dict().keys()


def test_a_tag_of_open_clip_names_weights_that_are_downloaded(tmp_path, monkeypatch):
    stranger = make()
    draw_weights(stranger.clip)
    save_file(stranger.clip.state_dict(), tmp_path / 'clip.safetensors')
    urls = []

    def download(url):
        urls.append(url)
        return str(tmp_path / 'clip.safetensors')

    monkeypatch.setattr('open_clip.pretrained.download_pretrained_from_url', download)
    classifier = make(init_cfg=dict(type='Pretrained', checkpoint='openai'))
    assert not urls, 'not in the constructor'
    with pytest.raises(ValueError, match="no weights 'openai' for None"):
        classifier.init_weights()
    classifier.clip_name = 'ViT-B-16-quickgelu'
    classifier.init_weights()
    assert len(urls) == 1 and 'ViT-B-16' in urls[0]
    own = classifier.clip.state_dict()
    assert all(torch.equal(own[key], value) for key, value in stranger.clip.state_dict().items())


# ------------------------------------------------------------------ the module
def test_clip_is_frozen_and_crops_have_its_size(frames):
    classifier = make().train()
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    assert not any(module.training for module in classifier.modules())
    assert classifier.crop_size == 16
    crop = classifier.crop(frames, torch.tensor([0]), torch.ones(1, *SIZE))
    assert crop.shape == (1, 3, 16, 16)
    assert classifier.encode(crop).norm().item() == pytest.approx(1, abs=1e-5)


def test_similarity_is_scaled_by_100_unless_told_otherwise():
    assert MODELS.build(CLASSIFIER).logit_scale == 100


def test_templates_are_those_of_mmseg_or_given():
    assert len(make(templates='vild').templates) == 14
    assert make(templates=['{}']).templates == ['{}']


@pytest.mark.parametrize(
    ('bad', 'message'),
    [
        (dict(clip='ViT-Q'), "no model 'ViT-Q'"),
        (dict(templates=['a photo']), r'prompts with \{\}.*a photo'),
        (dict(templates=[]), r'prompts with \{\}'),
        (dict(anchor='top'), "got 'square', 'top'"),
        (dict(crop='round'), "got 'round'"),
        (dict(mask_size='full'), "'full'"),
        (dict(sound_thr=1.5), '1.5'),
        (dict(sound_thr=-0.5), '-0.5'),
        (dict(logit_scale=0), 'got 64, 0, 0.5'),
        (dict(chunk_size=0), 'got 0, 5'),
    ],
)
def test_arguments_are_checked(bad, message):
    with pytest.raises(ValueError, match=message):
        make(**bad)


# ------------------------------------------------------------------ memory
def out_of_memory(how: str) -> Exception:
    """What PyTorch raises where memory runs out."""
    return {
        'gpu': torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB'),
        'cpu': RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        'cublas': RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`'),
        'python': MemoryError(),
    }[how]  # fmt: skip


def limit_memory(classifier, monkeypatch, most: int, how: str = 'gpu') -> list[int]:
    """Let CLIP fail on more than ``most`` crops; gives the list of the sizes that it is asked for."""
    sizes, encode = [], classifier.clip.encode_image

    def limited(images):
        sizes.append(len(images))
        if len(images) > most:
            raise out_of_memory(how)
        return encode(images)

    monkeypatch.setattr(classifier.clip, 'encode_image', limited)
    return sizes


@pytest.mark.parametrize('how', ['gpu', 'cpu', 'cublas', 'python'])
def test_where_memory_runs_out_the_batch_is_halved(frames, queries, monkeypatch, caplog, how):
    monkeypatch.setattr(clip_square_crop, 'CPU_CROPS', 7)
    expected = make(sound_thr=None)(frames, queries, NAMES, PAD)
    classifier = make(sound_thr=None)
    sizes = limit_memory(classifier, monkeypatch, 2, how)
    logged = []
    monkeypatch.setattr(clip_square_crop, 'print_log', lambda text, *_: logged.append(text))
    named = classifier(frames, queries, NAMES, PAD)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]  # 7 masks with a pixel
    assert torch.allclose(named.class_scores, expected.class_scores, atol=1e-5)
    assert len(logged) == 1 and 'on 7 crops at a time: from now on 1 at' in logged[0]
    sizes.clear()
    classifier(frames, queries, NAMES, PAD)
    assert sizes == [1] * 7 and len(logged) == 1, 'what fits is remembered'


@pytest.mark.parametrize('most', [1, 2, 3, 4, 6])
def test_every_crop_is_encoded_once_in_order_however_little_memory_there_is(monkeypatch, most):
    monkeypatch.setattr(clip_square_crop, 'CPU_CROPS', 16)
    classifier = make()
    crops = torch.rand(11, 3, classifier.crop_size, classifier.crop_size) * 255
    expected = classifier.encode(crops)
    sizes = limit_memory(classifier, monkeypatch, most)
    assert torch.allclose(classifier.encode(crops), expected, atol=1e-6)
    assert sum(size for size in sizes if size <= most) == 11
    assert expected[1:].sub(expected[:-1]).abs().amax(1).min() > 1e-3, 'an order to see'


def test_no_memory_for_a_single_crop_is_an_error(monkeypatch):
    classifier = make()
    sizes = limit_memory(classifier, monkeypatch, 0)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        classifier.encode(torch.rand(4, 3, 16, 16))
    assert sizes == [4, 2, 1]


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch):
    classifier = make()
    calls = []

    def fail(images):
        calls.append(len(images))
        raise RuntimeError('shapes do not match')

    monkeypatch.setattr(classifier.clip, 'encode_image', fail)
    with pytest.raises(RuntimeError, match='shapes'):
        classifier.encode(torch.rand(4, 3, 16, 16))
    assert calls == [4]


def test_what_a_failed_pass_held_is_freed_before_the_next(monkeypatch):
    """Else the second, smaller batch would have less memory than the first."""
    classifier = make()
    encode, held = classifier.clip.encode_image, []

    def limited(images):
        large = torch.zeros(10)
        if len(images) > 1:
            held.append(weakref.ref(large))
            raise out_of_memory('gpu')
        assert all(reference() is None for reference in held)
        return encode(images)

    monkeypatch.setattr(classifier.clip, 'encode_image', limited)
    assert len(classifier.encode(torch.rand(4, 3, 16, 16))) == 4
    assert len(held) == 2
