# SPDX-License-Identifier: Apache-2.0
"""GAVS: what trains, what a clip's mask depends on, and what noise, cue, alignment and a namer add."""

import pytest
import torch
from tiny_gavs import make_clip, tiny_gavs
from tiny_model import CLASSIFIER, prepare
from torch import nn

from ovavss_mm.models.segmentors import prompted_sam


@pytest.fixture(scope='module')
def model() -> nn.Module:
    return tiny_gavs(prompt_noise='none')


@pytest.fixture
def clips() -> list[tuple]:
    torch.manual_seed(1)
    return [make_clip(3), make_clip(2, (40, 24)), make_clip(3)]


@torch.no_grad()
def predict(model: nn.Module, clips: list[tuple]) -> list:
    return model.eval().predict(**prepare(model, clips))


def loss(model: nn.Module, clips: list[tuple]) -> dict:
    return model.train().loss(**prepare(model, clips, training=True))


# ------------------------------------------------------------------ testing
def test_a_clip_of_a_batch_gets_what_it_gets_alone_and_a_frame_too(model, clips):
    for sample, clip in zip(predict(model, clips), clips, strict=True):
        size = clip[2].ori_shape
        logits, label_map = sample.seg_logits.data, sample.pred_sem_seg.data
        assert logits.shape == label_map.shape == (len(clip[0]), *size) and logits.dtype == torch.float32
        assert torch.equal(logits > 0, label_map == 1) and 0 < (label_map == 1).float().mean() < 1
        (alone,) = predict(model, [clip])
        torch.testing.assert_close(alone.seg_logits.data, logits, rtol=0, atol=1e-5)
        frames = [predict(model, [(clip[0][i : i + 1], clip[1][i : i + 1], clip[2])])[0] for i in range(len(logits))]
        frames = torch.cat([frame.seg_logits.data for frame in frames])
        torch.testing.assert_close(frames, logits, rtol=0, atol=1e-5)


def test_ten_frames_are_windows_of_five(model):
    clip = make_clip(10)
    (whole,) = predict(model, [clip])
    parts = [predict(model, [(clip[0][i : i + 5], clip[1][i : i + 5], clip[2])])[0] for i in (0, 5)]
    parts = torch.cat([part.seg_logits.data for part in parts])
    torch.testing.assert_close(parts, whole.seg_logits.data, rtol=0, atol=1e-5)


def test_the_mask_follows_the_sound_of_its_own_frame(model, clips):
    imgs, audio, sample = clips[0]
    other = audio.clone()
    other[1] = -4.6052  # silence
    before, after = (predict(model, [(imgs, x, sample)])[0].seg_logits.data for x in (audio, other))
    moved = (after - before).abs().amax((1, 2))
    assert moved[1] > 1e-3 and moved[[0, 2]].max() < 1e-5 and after.isfinite().all()


def test_several_names_need_a_classifier(model, clips):
    clips[0][2].set_metainfo(dict(vocabulary=('dog', 'cat')))
    with pytest.raises(ValueError, match='what sounds from what does not, the vocabulary has 2 names'):
        predict(model, clips[:1])


def test_a_classifier_names_the_mask(clips):
    model = tiny_gavs(classifier=CLASSIFIER | dict(sound_thr=None))
    assert not model.is_binary and model.namer is model.classifier and model.dense_classes is None
    clips[0][2].set_metainfo(dict(vocabulary=('dog', 'cat')))
    model.test_cfg['score_thr'] = 0.0
    (sample,) = predict(model, clips[:1])
    assert 'seg_logits' not in sample
    pairs, label_map = sample.pred_queries, sample.pred_sem_seg.data
    assert sorted(pairs.labels.tolist()) == [0, 1] and pairs.sound_scores.unique().numel() == 1
    assert 0.5 < pairs.sound_scores[0] < 1, 'the mean of probabilities that are over a half'
    assert set(label_map.unique().tolist()) == {0, int(pairs.labels[0]) + 1}
    model.classifier = None
    clips[0][2].set_metainfo(dict(vocabulary=('sounding',)))
    (binary,) = predict(model, clips[:1])
    assert torch.equal(label_map > 0, binary.pred_sem_seg.data > 0)


def test_a_classifier_may_hear_what_names_have_of_their_own(model, clips):
    heard = []

    def classify(frames, queries, names, pad_shape):
        heard.append(queries.get('naming_audio'))
        queries.class_scores = queries.scores[:, None].expand(1, len(names))
        return queries

    data, rows = prepare(model, clips[:1]), torch.randn(3, 4)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, 'classifier', classify)
        model.predict(data['inputs'] | dict(naming_audio=[rows]), data['data_samples'])
        model.predict(**data)
    assert torch.equal(heard[0], rows) and heard[1] is None


# ------------------------------------------------------------------ training
@pytest.mark.parametrize('deltas', [{}, dict(visual_cue=True, triplet_weight=0.5), dict(tune_v=0), dict(tune_v=3)])
def test_gradients_reach_what_trains_and_nothing_else(deltas, clips):
    model = tiny_gavs(**deltas)
    losses = loss(model, clips)
    sum(losses.values()).backward()
    grads = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert grads == {name for name, p in model.named_parameters() if p.requires_grad}
    assert {'loss_mask'} | ({'loss_triplet'} if 'triplet_weight' in deltas else set()) == losses.keys()
    tune_v, sam = deltas.get('tune_v', 1), {name for name in grads if name.startswith('sam.')}
    blocks = {f'vision_encoder.layers.{i}.mlp.{part}' for i in range(tune_v, 3) for part in ('down', 'up')}
    blocks |= {f'vision_encoder.layers.{i}.layer_norm{k}' for i in range(tune_v + 1, 3) for k in (1, 2)}
    blocks |= {f'mask_decoder.transformer.layers.{i}.mlp.{part}' for i in range(2) for part in ('down', 'up')}
    assert sam == {f'sam.model.{name}.{kind}' for name in blocks for kind in ('weight', 'bias')}
    own = {name.split('.')[0] for name in grads - sam}
    assert own == {'audio_encoder', 'audio_prompt'} | ({'cue_prompt'} if 'visual_cue' in deltas else set())


def test_loss_is_the_mean_over_clips_at_the_size_of_their_labels(model, clips):
    each = [loss(model, [clip])['loss_mask'] for clip in clips]
    torch.testing.assert_close(loss(model, clips)['loss_mask'], torch.stack(each).mean())
    for value, clip in zip(each, clips, strict=True):
        (sample,) = predict(model, [clip])
        target = (clip[2].gt_sem_seg.data > 0).float()
        bce = nn.functional.binary_cross_entropy_with_logits(sample.seg_logits.data, target)
        torch.testing.assert_close(value, bce, rtol=1e-4, atol=1e-5)


def test_frames_and_pixels_without_annotation_are_left_out(model):
    imgs, audio, sample = make_clip(3)
    sample.gt_sem_seg.data[1:] = 255
    first = (imgs[:1], audio[:1], make_clip(1)[2])
    torch.testing.assert_close(loss(model, [(imgs, audio, sample)]), loss(model, [first]))
    sample.gt_sem_seg.data[0, :, 20:] = 255
    changed = sample.clone()
    some = loss(model, [(imgs, audio, sample)])['loss_mask']
    logits = predict(model, [first])[0].seg_logits.data[..., :20]
    target = (changed.gt_sem_seg.data[:1, :, :20] > 0).float()
    expected = nn.functional.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(some, expected, rtol=1e-4, atol=1e-5)
    sample.gt_sem_seg.data[:] = 255
    nothing = loss(model, [(imgs, audio, sample)])['loss_mask']
    assert nothing == 0 and nothing.requires_grad


def test_labels_that_were_padded_with_the_frames_count_the_same(model):
    labels = torch.zeros(2, 96, 128, dtype=torch.uint8)
    labels[:, 10:50, 20:90] = 1
    clip = make_clip(2, (96, 128), labels)
    data = prepare(model, [clip], training=True)
    assert data['data_samples'][0].gt_sem_seg.shape == (128, 128)
    padded = model.train().loss(**data)['loss_mask']
    logits = predict(model, [clip])[0].seg_logits.data
    torch.testing.assert_close(padded, nn.functional.binary_cross_entropy_with_logits(logits, labels.float()))


def test_any_name_is_the_object(model, clips):
    same = [(imgs, audio, sample.clone()) for imgs, audio, sample in clips]
    for *_, sample in same:
        sample.gt_sem_seg.data[sample.gt_sem_seg.data > 0] = 7
    torch.testing.assert_close(loss(model, same), loss(model, clips))


# ------------------------------------------------------------------ noise, cue and alignment
@pytest.mark.parametrize('noise', ['none', 'add', 'replace'])
def test_noise_is_of_training_only(noise, clips):
    model = tiny_gavs(prompt_noise=noise)
    imgs, audio = (torch.cat(prepare(model, clips)['inputs'][key]) for key in ('imgs', 'audio'))
    with torch.no_grad():
        plain, embedding = model.extract_feat(imgs, audio)[1], model.audio_encoder(audio)
        assert torch.equal(plain[:, 0], model.audio_prompt(embedding))
        model.train()
        torch.manual_seed(3)
        drawn = torch.randn_like(embedding) * embedding.std(-1, keepdim=True)
        expected = dict(none=embedding, add=embedding + drawn, replace=drawn)[noise]
        torch.manual_seed(3)
        assert torch.equal(model.extract_feat(imgs, audio)[1][:, 0], model.audio_prompt(expected))


def test_an_embedding_of_zeros_has_no_noise_and_finite_gradients(clips):
    model = tiny_gavs(audio_encoder=dict(type='VGGishEncoder'))
    imgs, audio, sample = clips[0]
    losses = loss(model, [(imgs, torch.zeros(3, 128), sample)])
    losses['loss_mask'].backward()
    model.prompt_noise = 'none'
    assert torch.equal(losses['loss_mask'], loss(model, [(imgs, torch.zeros(3, 128), sample)])['loss_mask'])
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_the_cue_is_a_second_prompt_from_the_frame(clips):
    model = tiny_gavs(visual_cue=True)
    data = prepare(model, clips[:1])['inputs']
    with torch.no_grad():
        maps, prompts = model.extract_feat(data['imgs'][0], data['audio'][0])
    cue = maps.mean((2, 3))
    torch.testing.assert_close(prompts[:, 1], cue + model.cue_prompt(cue))
    assert prompts.shape == (3, 2, 64)


def test_alignment_has_the_weight_it_is_given_and_needs_an_object(clips):
    losses = [loss(tiny_gavs(prompt_noise='none', triplet_weight=w), clips)['loss_triplet'] for w in (1.0, 2.0)]
    torch.testing.assert_close(losses[1], 2 * losses[0])
    assert losses[0] > 0
    silent = make_clip(2, labels=torch.zeros(2, 30, 40, dtype=torch.uint8))
    assert loss(tiny_gavs(triplet_weight=1.0), [silent])['loss_triplet'] == 0


# ------------------------------------------------------------------ checkpoints and arguments
def test_a_checkpoint_is_whole(model, clips):
    state = model.state_dict()
    assert {name for name, _ in model.named_parameters()} <= state.keys()
    other = tiny_gavs(prompt_noise='none')
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(state)
    before, after = (predict(x, clips[:1])[0].seg_logits.data for x in (model, other))
    assert torch.equal(before, after)


@pytest.mark.parametrize(
    ('deltas', 'message'),
    [
        (dict(prompt_noise='swap'), "prompt_noise must be one of none, add, replace, got 'swap'"),
        (dict(triplet_weight=-1), 'cannot be negative, got -1'),
        (dict(triplet_margin=-2), 'cannot be negative, got 0.0 and -2'),
        (dict(tune_v=4), 'tune_v must be one of 3 encoder blocks.*got 4'),
        (dict(adapter_channels=0), 'at least 1, got 1 and 0'),
        (dict(init_cfg=dict(type='Kaiming')), 'AdaptedSAM takes init_cfg'),
        (dict(test_cfg=dict(window=0)), 'test_cfg'),
        (
            dict(classifier=CLASSIFIER | dict(type='TextSpaceClassifier')),
            r'TextSpaceClassifier reads more of a query than its mask \(needs_text\)',
        ),
    ],
)
def test_bad_arguments_are_named(deltas, message):
    with pytest.raises(ValueError, match=message):
        tiny_gavs(**deltas)


def test_frames_that_were_not_resized_are_refused(model):
    imgs, audio, sample = make_clip(1)
    with pytest.raises(ValueError, match=r'SAM takes 128 x 128 pixels, got \(256, 256\): frames need ResizeClip'):
        predict(model, [(imgs.repeat(1, 1, 2, 2), audio, sample)])


def test_a_clip_without_annotation_keeps_its_first_frame():
    labels = torch.full((3, 2, 2), 255, dtype=torch.uint8)
    assert prompted_sam.annotated_frames(labels).tolist() == [True, False, False]
    labels[2, 0, 0] = 0
    assert prompted_sam.annotated_frames(labels).tolist() == [False, False, True]
