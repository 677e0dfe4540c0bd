# SPDX-License-Identifier: Apache-2.0
"""Outputs and gradients stay finite, whatever a clip looks and sounds like."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData
from mmseg.registry import MODELS, OPTIM_WRAPPERS
from tiny_model import CLASSIFIER, NAMES, SILENCE, collate, make_clip, prepare, tiny_config, tiny_model
from torch import Tensor

import ovavss_mm.engine  # noqa: F401  (registers the optimizer wrappers)
from ovavss_mm.datasets.transforms.front_ends import VGGishLogMel
from ovavss_mm.evaluation import functional as F
from ovavss_mm.models.losses.video_criterion import VideoCriterion, VideoTargets
from ovavss_mm.models.segmentors.label_map import best_pairs, paint, resize_pairs

SIZES = [(1, 1), (1, 2000), (2000, 30), (30, 2000), (33, 31)]
FEW = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
side = st.integers(1, 70)


def ids(sizes: list) -> list[str]:
    return [f'{height}x{width}' for height, width in sizes]


@pytest.fixture(scope='module')
def models():
    """A model that is sure of nothing, and one of bfloat16."""
    torch.manual_seed(0)
    tests = dict(classifier=dict(sound_thr=None), test_cfg=dict(score_thr=0.0))
    made = {precision: tiny_model(**tests) for precision in ('float32', 'bfloat16')}
    mixed = made['bfloat16']
    mixed.forward = torch.autocast('cpu', torch.bfloat16)(mixed.forward)  # as AVRunner does
    return made


def labels_of(kind: str, frames: int, size: tuple[int, int]) -> Tensor:
    """Label maps (T, H, W) uint8."""
    height, width = size
    labels = torch.zeros(frames, *size, dtype=torch.uint8)
    places = dict(
        pixel=(slice(height // 2, height // 2 + 1), slice(width // 2, width // 2 + 1)),
        top=(slice(0, 1), slice(None)),
        bottom=(slice(height - 1, height), slice(None)),
        left=(slice(None), slice(0, 1)),
        right=(slice(None), slice(width - 1, width)),
        corner=(slice(height - 1, height), slice(width - 1, width)),
        full=(slice(None), slice(None)),
    )
    if kind == 'unannotated':
        labels[:] = 255
    elif kind != 'silent':
        labels[(slice(None), *places[kind])] = 2
    return labels


LABELS = ['silent', 'unannotated', 'pixel', 'top', 'bottom', 'left', 'right', 'corner', 'full']


def sound_of(kind: str, frames: int) -> Tensor:
    """Log-mel patches (T, 1, 96, 64), by VGGish's front end."""
    seconds = 0.96 * frames + 0.1
    n = np.arange(int(16000 * seconds))
    wave = dict(
        silence=np.zeros(len(n)),
        square=np.where(n // 20 % 2, 1.0, -1.0),  # 400 Hz, full scale
        click=np.where(n == 8000, 1.0, 0.0),
        constant=np.ones(len(n)),
        tiny=np.full(len(n), 5e-324),
    )[kind]
    return torch.from_numpy(VGGishLogMel()(wave, frames))


SOUNDS = ['silence', 'square', 'click', 'constant', 'tiny']


def images_of(kind: str, frames: int, size: tuple[int, int]) -> Tensor:
    """Frames (T, 3, H, W) uint8."""
    if kind == 'noise':
        return torch.randint(0, 256, (frames, 3, *size), dtype=torch.uint8)
    value = dict(black=0, grey=124, white=255)[kind]
    return torch.full((frames, 3, *size), value, dtype=torch.uint8)


IMAGES = ['black', 'grey', 'white', 'noise']


def check_training(model, clip: tuple) -> None:
    """Losses and gradients of a clip are finite, and there are gradients."""
    model.zero_grad()
    losses = model(**prepare(model, [clip], training=True), mode='loss')
    assert all(value.isfinite().all() for value in losses.values()), losses
    loss, _ = model.parse_losses(losses)
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    bad = [name for name, grad in grads.items() if not grad.isfinite().all()]
    assert not bad and len(grads) > 100
    assert any(grad.abs().max() > 0 for grad in grads.values())


@torch.no_grad()
def check_prediction(model, clip: tuple) -> None:
    """A label map of the clip's size, of its names, and finite scores."""
    imgs, _, sample = clip
    (result,) = model(**prepare(model, [clip]), mode='predict')
    found = result.pred_sem_seg.data
    assert found.shape == (len(imgs), *sample.ori_shape) and found.dtype == torch.uint8
    assert int(found.max()) <= len(sample.vocabulary)
    queries = result.pred_queries
    for key in ('scores', 'sound_scores'):
        assert queries[key].isfinite().all() and ((queries[key] >= 0) & (queries[key] <= 1)).all()


def clip_of(
    image: str = 'noise', sound: str = 'square', labels: str = 'full', frames: int = 2, size: tuple = (40, 48)
) -> tuple:
    """A clip as the pipeline packs it."""
    _, _, sample = make_clip(frames, size, labels_of(labels, frames, size))
    return images_of(image, frames, size), sound_of(sound, frames), sample


# ------------------------------------------------------------------ the whole model
@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
@pytest.mark.parametrize('image', IMAGES)
@pytest.mark.parametrize('sound', SOUNDS)
def test_images_and_sounds(models, image, sound, precision):
    clip = clip_of(image, sound)
    check_training(models[precision], clip)
    check_prediction(models[precision], clip)


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
@pytest.mark.parametrize('labels', LABELS)
@pytest.mark.parametrize('frames', [1, 5])
def test_labels(models, labels, frames, precision):
    check_training(models[precision], clip_of('noise', 'silence', labels, frames))


@pytest.mark.parametrize('size', SIZES, ids=ids(SIZES))
@pytest.mark.parametrize('frames', [1, 2])
def test_sizes(models, size, frames):
    for labels in ('pixel', 'corner'):
        clip = clip_of('noise', 'square', labels, frames, size)
        check_training(models['float32'], clip)
    check_prediction(models['float32'], clip)


@FEW
@example(1, 1, 1, 'black', 'silence', 'silent')
@given(st.integers(1, 6), side, side, st.sampled_from(IMAGES), st.sampled_from(SOUNDS), st.sampled_from(LABELS))
def test_any_clip(models, frames, height, width, image, sound, labels):
    clip = clip_of(image, sound, labels, frames, (height, width))
    check_training(models['float32'], clip)
    check_prediction(models['float32'], clip)


@FEW
@given(side, side, side, side)
def test_any_size_of_the_label_map(models, height, width, ori_height, ori_width):
    imgs, audio, sample = clip_of(size=(height, width), frames=1)
    sample.set_metainfo(dict(ori_shape=(ori_height, ori_width)))
    check_prediction(models['float32'], (imgs, audio, sample))


def test_one_name(models):
    imgs, audio, sample = clip_of()
    sample.set_metainfo(dict(vocabulary=('dog',)))
    check_prediction(models['float32'], (imgs, audio, sample))


@pytest.mark.parametrize('delta', [
    dict(neck=dict(fusion=dict(_delete_=True, type='AddFusion'))),
    dict(neck=dict(fusion=None), audio_encoder=None,
         decode_head=dict(transformer_decoder=dict(audio_prompt=dict(type='NoAudioPrompt')))),
    dict(decode_head=dict(transformer_decoder=dict(audio_prompt=dict(type='ConcatAddPrompt')))),
    dict(decode_head=dict(criterion=dict(loss_mask=dict(
        _delete_=True, type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0)))),
], ids=['add', 'no sound', 'concat_add', 'bce'])  # fmt: skip
def test_other_ways_to_hear_and_to_learn(delta):
    model = tiny_model(**delta)
    for image, sound, labels in (('black', 'silence', 'silent'), ('white', 'square', 'pixel')):
        check_training(model, clip_of(image, sound, labels, 1, (33, 31)))


def test_weights_stay_finite_where_a_clip_is_not(models):
    """Embeddings from a file may hold anything; the update from them is left out."""
    torch.manual_seed(0)
    model = MODELS.build(tiny_config()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    wrapper = OPTIM_WRAPPERS.build(dict(type='FiniteOptimWrapper', optimizer=optimizer, clip_grad=dict(max_norm=0.1)))
    imgs, audio, sample = clip_of()
    before = [p.detach().clone() for p in model.parameters()]
    for value in (float('nan'), float('inf'), 3e38):
        model.train_step(collate([(imgs, torch.full_like(audio, value), sample)]), wrapper)
        assert wrapper.skipped
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    model.train_step(collate([(imgs, audio, sample)]), wrapper)
    assert not wrapper.skipped
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


# ------------------------------------------------------------------ classifier
def paint_pairs(pairs: InstanceData, frames: Tensor, pad: tuple, size: tuple) -> Tensor:
    """Label map (T, H, W)."""
    masks = resize_pairs(pairs, tuple(frames.shape[-2:]), pad, size).masks
    return torch.stack([paint(pairs.labels.tolist(), masks[:, t]) for t in range(len(frames))])


def named(masks: Tensor, frames: Tensor, names: tuple = NAMES, **kwargs) -> InstanceData:
    torch.manual_seed(0)
    classifier = MODELS.build(CLASSIFIER | dict(sound_thr=None) | kwargs)
    queries = InstanceData(masks=masks, scores=torch.ones(len(masks)))
    pad = tuple(side * 4 for side in masks.shape[-2:])
    return classifier(frames, queries, names, pad), pad


def masks_of(kind: str) -> Tensor:
    """One query in one frame, logits (1, 1, 8, 12)."""
    masks = torch.full((1, 1, 8, 12), -1e4)
    y, x = dict(
        pixel=(3, 5), top=(0, slice(None)), left=(slice(None), 0), bottom=(7, slice(None)),
        right=(slice(None), 11), corner=(7, 11), full=(slice(None), slice(None)), none=(slice(0), 0),
    )[kind]  # fmt: skip
    masks[:, :, y, x] = 1e4
    return masks


KINDS = ['pixel', 'top', 'left', 'bottom', 'right', 'corner', 'full', 'none']


@pytest.mark.parametrize('crop', ['square', 'resize', 'whole_frame'])
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('image', ['black', 'white', 'noise'])
def test_classifier_on_saturated_masks(kind, image, crop):
    frames = images_of(image, 1, (32, 48))
    for names in (NAMES, ('dog',)):
        for options in (dict(), dict(anchor='corner', mask_size='padded')):
            found, pad = named(masks_of(kind), frames, names, crop=crop, **options)
            assert len(found) == (kind != 'none') and found.class_scores.shape[1] == len(names)
            assert found.class_scores.isfinite().all()
            assert torch.allclose(found.class_scores.sum(1), torch.ones(len(found)))
    pairs = best_pairs(found)
    label_map = paint_pairs(pairs, frames, pad, (37, 41))
    assert label_map.shape == (1, 37, 41)
    assert bool(label_map.any()) == (kind != 'none'), 'one name is sure'


@pytest.mark.parametrize('size', SIZES, ids=ids(SIZES))
@pytest.mark.parametrize('crop', ['square', 'resize'])
def test_classifier_on_frames_of_any_size(size, crop):
    shape = [-(-side // 32) * 8 for side in size]
    masks = torch.full((2, 1, *shape), 1e4)
    masks[1, :, 1:], masks[1, :, :, 1:] = -1e4, -1e4
    found, pad = named(masks, images_of('noise', 1, size), crop=crop)
    assert len(found) == 2 and found.class_scores.isfinite().all()
    label_map = paint_pairs(best_pairs(found, score_thr=0.0), images_of('black', 1, size), pad, size)
    assert label_map.shape == (1, *size) and (label_map > 0).all()


# ------------------------------------------------------------------ criterion
def criterion(**kwargs) -> VideoCriterion:
    cfg = tiny_config().decode_head.criterion
    return VideoCriterion(**(cfg | kwargs))


@pytest.mark.parametrize('scale', [1e4, -1e4, 1e15, 0.0], ids=['on', 'off', 'extreme', 'zero'])
@pytest.mark.parametrize('labels', LABELS)
def test_criterion_on_saturated_masks(labels, scale):
    """Right or wrong, of one layer or another."""
    targets = VideoTargets.from_label_map(labels_of(labels, 2, (32, 48)))
    sound = (torch.randn(3, 6, 2) * (1e4 if scale else 0)).requires_grad_()
    embed = torch.full((3, 6, 4), scale / 4).requires_grad_()
    pixels = torch.ones(2, 4, 8, 12, requires_grad=True)
    losses = criterion()(sound, embed, pixels, targets)
    assert all(value.shape == (3,) and value.isfinite().all() for value in losses.values()), losses
    sum(value.sum() for value in losses.values()).backward()
    for tensor in (sound, embed, pixels):
        assert tensor.grad.isfinite().all()
    assert sound.grad.abs().max() > 0 or scale


@FEW
@given(st.integers(1, 4), st.integers(1, 8), st.integers(1, 40), st.integers(1, 40), st.floats(-1e4, 1e4),
       st.sampled_from(LABELS))  # fmt: skip
def test_criterion_on_any_shape(frames, queries, height, width, scale, labels):
    targets = VideoTargets.from_label_map(labels_of(labels, frames, (4 * height, 4 * width)))
    sound = torch.randn(2, queries, 2, requires_grad=True)
    embed = (scale * torch.randn(2, queries, 4)).requires_grad_()
    pixels = torch.randn(frames, 4, height, width, requires_grad=True)
    losses = criterion(num_points=16)(sound, embed, pixels, targets)
    assert all(value.isfinite().all() for value in losses.values())
    sum(value.sum() for value in losses.values()).backward()
    assert all(tensor.grad.isfinite().all() for tensor in (sound, embed, pixels))


# ------------------------------------------------------------------ sound
@pytest.mark.parametrize('kind', SOUNDS)
def test_log_mel_of_extreme_sounds(kind):
    patches = sound_of(kind, 2)
    assert patches.shape == (2, 1, 96, 64) and patches.isfinite().all()
    assert patches.min() >= SILENCE - 1e-3
    if kind in ('silence', 'tiny'):
        assert torch.allclose(patches, torch.full_like(patches, SILENCE), atol=1e-3)
    else:
        assert patches.max() > SILENCE + 1


# ------------------------------------------------------------------ metric
@FEW
@given(st.integers(1, 3), side, side, st.integers(2, 6), st.data())
def test_metric_on_any_label_map(frames, height, width, classes, data):
    """Every figure is a fraction, or NaN where nothing defines it."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    few = data.draw(st.integers(1, classes))
    pred, label = rng.integers(0, few, (2, frames, height, width))
    label[rng.random(label.shape) < data.draw(st.sampled_from([0, 0.5, 1]))] = 255
    size = data.draw(st.tuples(side, side))
    pred, label = F.resize_nearest(pred, size), F.resize_nearest(label, size)
    assert pred.shape == (frames, *size)
    with np.errstate(all='raise'):
        confusion = F.frame_confusion(pred, label, classes)
        total = confusion.sum(0)
        figures = [F.per_class_iou(total), F.per_class_acc(total), *F.frame_j_f(confusion)]
        figures += [F.mean_of(figures[0]), F.overall_acc(total), F.freqw_acc(total)]
    assert total.sum() == (label != 255).sum()
    values = np.concatenate([np.ravel(figure) for figure in figures])
    values = values[~np.isnan(values)]
    assert ((values >= 0) & (values <= 1 + 1e-12)).all()
    assert len(values) or (label == 255).all()
