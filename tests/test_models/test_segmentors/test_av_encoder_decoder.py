# SPDX-License-Identifier: Apache-2.0
import weakref

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tiny_model import NAMES, SILENCE, collate, give_masks_edges, make_clip, prepare, tiny_config, tiny_model

from ovavss_mm.models import AVEncoderDecoder
from ovavss_mm.models.segmentors.clip_segmentor import group_by
from ovavss_mm.models.segmentors.windows import Blender


@pytest.fixture(scope='module')
def model():
    """A model in double precision, whose queries sound and whose masks have edges."""
    torch.manual_seed(0)
    model = tiny_model(classifier=dict(sound_thr=None, logit_scale=20.0), test_cfg=dict(score_thr=0.1))
    give_masks_edges(model.decode_head)
    return model.double()


@pytest.fixture
def trainable():
    """A model in float32 whose weights a test may change."""
    return tiny_model()


def losses_of(model: AVEncoderDecoder, clips: list) -> dict:
    return model.loss(**prepare(model, clips, training=True))


@torch.no_grad()
def predict(model: AVEncoderDecoder, clips: list) -> list[SegDataSample]:
    return model.predict(**prepare(model, clips))


def same(a: SegDataSample, b: SegDataSample) -> bool:
    """Whether two predictions are the same."""
    queries = all(
        a.pred_queries[key].shape == b.pred_queries[key].shape
        and torch.allclose(a.pred_queries[key].double(), b.pred_queries[key].double(), atol=1e-5)
        for key in ('labels', 'scores', 'sound_scores')
    )
    return queries and torch.equal(a.pred_sem_seg.data, b.pred_sem_seg.data)


@pytest.fixture
def clips():
    """Clips of three shapes, two of one T; the first and the last one have the same shape."""
    shapes = [(5, (64, 96)), (3, (40, 64)), (3, (64, 96)), (5, (64, 96))]
    return [make_clip(*shape) for shape in shapes]


# ------------------------------------------------------------------ batches
def test_loss_of_a_batch_is_the_mean_of_its_clips(model, clips, fixed_points):
    batch = losses_of(model, clips)
    single = [losses_of(model, [clip]) for clip in clips]
    assert all(name.startswith('decode.') and 'loss' in name for name in batch)
    for name, value in batch.items():
        values = [losses[name] for losses in single]
        assert torch.allclose(value, sum(values) / 4, atol=1e-5), name
    assert len({round(losses['decode.loss_mask'].item(), 4) for losses in single}) == 4


def test_prediction_of_a_batch_is_that_of_its_clips(model, clips):
    batch = predict(model, clips)
    for sample, clip in zip(batch, clips, strict=True):
        assert same(sample, predict(model, [clip])[0])
        assert len(sample.pred_sem_seg.data.unique()) > 1, 'something to compare'
    assert not same(batch[0], batch[3])


def test_order_of_clips_in_a_batch_plays_no_part(model, clips, fixed_points):
    order = [2, 0, 3, 1]
    shuffled = [clips[i] for i in order]
    expected, losses = losses_of(model, clips), losses_of(model, shuffled)
    for name, value in losses.items():
        assert torch.allclose(value, expected[name], atol=1e-5)
    expected = predict(model, clips)
    for sample, i in zip(predict(model, shuffled), order, strict=True):
        assert same(sample, expected[i])


class EitherEncoder(torch.nn.Module):
    """Takes patches and, as VGGish does, embeddings."""

    def forward(self, audio):
        return audio[:, 0, :16, 0] if audio.ndim == 4 else audio


def test_a_batch_may_mix_patches_and_embeddings(fixed_points):
    model = tiny_model(classifier=dict(sound_thr=None)).double()
    model.audio_encoder = EitherEncoder()
    imgs, patches, sample = make_clip(3, (32, 64))
    clips = [(imgs, patches, sample), (imgs, patches[:, 0, :16, 0], sample)]
    alone, both = losses_of(model, clips[:1]), losses_of(model, clips)
    assert all(torch.allclose(value, alone[name], atol=1e-6) for name, value in both.items())
    assert same(*predict(model, clips))


def test_group_by_keeps_order_of_first_appearance():
    assert group_by(['bb', 'a', 'cc', 'd', 'eee'], len) == [['bb', 'cc'], ['a', 'd'], ['eee']]
    assert group_by([], len) == []


# ------------------------------------------------------------------ clips of all kinds
def clip_of_kind(kind: str) -> tuple:
    if kind == 'silent':
        imgs, audio, sample = make_clip()
        return imgs, torch.full_like(audio, SILENCE), sample
    if kind == 'no target':
        return make_clip(labels=torch.zeros(5, 64, 96, dtype=torch.uint8))
    if kind == 'v1s':
        clip = make_clip()
        clip[2].gt_sem_seg.data[1:] = 255
        return clip
    return make_clip(int(kind[2:]))


@pytest.mark.parametrize('kind', ['silent', 'no target', 'v1s', 'T=1', 'T=3', 'T=7'])
def test_losses_and_gradients_are_finite(trainable, kind):
    losses = losses_of(trainable, [clip_of_kind(kind)])
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    for name, parameter in trainable.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    zero = [name for name, value in losses.items() if value == 0]
    if kind == 'no target':
        assert len(zero) == 2 * 5 and not any('sound' in name for name in zero)
    else:
        assert not zero


def test_masks_in_frames_without_labels_are_not_supervised(model, fixed_points, monkeypatch):
    clip, forward = clip_of_kind('v1s'), model.decode_head.forward
    expected = losses_of(model, [clip])

    def other_masks(x):
        predictions = forward(x)
        pixel_embed = predictions.pixel_embed.clone()
        pixel_embed[:, 1:] *= -1
        return predictions._replace(pixel_embed=pixel_embed)

    monkeypatch.setattr(model.decode_head, 'forward', other_masks)
    for name, value in losses_of(model, [clip]).items():
        assert torch.equal(value, expected[name])
    dense = losses_of(model, [make_clip()])['decode.loss_mask']
    assert not torch.allclose(dense, expected['decode.loss_mask'], atol=1e-3)


def test_silence_is_heard(model):
    imgs, audio, sample = make_clip()
    loud = prepare(model, [(imgs, audio, sample)])
    silent = prepare(model, [(imgs, torch.full_like(audio, SILENCE), sample)])
    with torch.no_grad():
        a, b = (model(**{'inputs': d['inputs'], 'mode': 'tensor'}) for d in (loud, silent))
    assert (a.sound_logits[-1] - b.sound_logits[-1]).abs().max() > 1e-3
    assert (a.masks() - b.masks()).abs().max() > 1e-3


# ------------------------------------------------------------------ gradients
def test_gradients_reach_what_is_trained_and_nothing_else():
    """One training step of a model in training mode, with everything off its starting point."""
    model = tiny_model().double().train()
    give_masks_edges(model.decode_head)
    losses = losses_of(model, [make_clip(), make_clip(3, (40, 64))])
    sum(losses.values()).backward()
    frozen = {
        f'{prefix}.{name}'
        for prefix, module in model.named_modules()
        if prefix == 'classifier' or isinstance(module, torch.nn.BatchNorm2d)
        for name, _ in module.named_parameters()
    }
    assert frozen == {name for name, p in model.named_parameters() if not p.requires_grad}
    assert all(p.grad is None for name, p in model.named_parameters() if name in frozen)
    # it adds the same to the logits of all positions, over which the softmax is taken
    cancels = {'neck.fusion.query_v.bias'}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert (parameter.grad.abs().max() > 1e-12) == (name not in cancels), name


def test_a_training_step_changes_what_is_trained_and_nothing_else():
    model = tiny_model().train()
    give_masks_edges(model.decode_head)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = OptimWrapper(torch.optim.SGD(trained, lr=1.0))
    log = model.train_step(collate([make_clip(), make_clip(3, (40, 64))]), optimizer)
    assert log['loss'].isfinite()
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    for name, value in model.state_dict().items():
        if name in names - {'neck.fusion.query_v.bias'}:
            assert not torch.equal(value, before[name]), name
        elif name not in names:
            assert torch.equal(value, before[name]), f'{name} is frozen, or a statistic that is'


def test_dropout_is_for_training_only(trainable, fixed_points):
    clip = make_clip(2, (32, 64))
    first, second = (losses_of(trainable, [clip]) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    trainable.train()
    assert not torch.equal(first['decode.loss_mask'], losses_of(trainable, [clip])['decode.loss_mask'])


def test_trains_and_predicts_in_mixed_precision(trainable, fixed_points):
    clips = [make_clip(), make_clip(3, (40, 64))]
    expected = losses_of(trainable, clips)
    with torch.autocast('cpu', torch.bfloat16):
        losses = losses_of(trainable, clips)
        results = predict(trainable, clips)
    for name, value in losses.items():
        assert value.dtype == torch.float32 and abs(value - expected[name]) < 0.1 * expected[name]
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in trainable.parameters() if p.requires_grad)
    assert results[0].pred_sem_seg.data.shape == (5, 64, 96)


# ------------------------------------------------------------------ predictions
def test_prediction_has_the_promised_form(model):
    imgs, audio, sample = make_clip(3, (40, 64))
    sample.set_metainfo(dict(ori_shape=(80, 128)))
    result = predict(model, [(imgs, audio, sample)])[0]
    assert result.pred_sem_seg.data.shape == (3, 80, 128)
    assert result.pred_sem_seg.data.dtype == torch.uint8
    pairs = result.pred_queries
    keys = ['class_scores', 'labels', 'query_embeds', 'scores', 'sound_scores', 'window_start']
    assert sorted(pairs.keys()) == keys and pairs.class_scores.shape[0] == len(pairs.labels)
    assert 0 < len(pairs) <= 10
    assert pairs.scores.tolist() == sorted(pairs.scores.tolist(), reverse=True)
    assert (pairs.scores > 0.1).all() and pairs.labels.max() < 3
    painted = set(result.pred_sem_seg.data.unique().tolist()) - {0}
    assert painted and painted <= {label + 1 for label in pairs.labels.tolist()}
    assert result.clip_id == 'noise' and result.gt_sem_seg is not None


@pytest.mark.parametrize('frames', [10, 15])
def test_windows_of_a_long_clip_are_clips(model, frames):
    imgs, audio, sample = make_clip(frames, (32, 64))
    whole = predict(model, [(imgs, audio, sample)])[0]
    starts = range(0, frames, 5)
    parts = [predict(model, [(imgs[i : i + 5], audio[i : i + 5], sample)])[0] for i in starts]
    maps = torch.cat([part.pred_sem_seg.data for part in parts])
    assert len(maps) == frames and torch.equal(whole.pred_sem_seg.data, maps)
    for key in ('labels', 'scores', 'sound_scores'):
        expected = torch.cat([part.pred_queries[key] for part in parts])
        assert torch.allclose(whole.pred_queries[key], expected)
    first = [i for i, part in zip(starts, parts, strict=True) for _ in part.pred_queries.labels]
    assert whole.pred_queries.window_start.tolist() == first


@pytest.mark.parametrize('frames', [6, 7, 12])
def test_the_last_window_is_shifted_back(model, frames, monkeypatch):
    """A clip of 6 frames is 0-4 and 1-5, not five frames and one without any before it."""
    monkeypatch.setitem(model.test_cfg, 'return_masks', True)
    imgs, audio, sample = make_clip(frames, (32, 64))
    whole = predict(model, [(imgs, audio, sample)])[0]
    last = predict(model, [(imgs[-5:], audio[-5:], sample)])[0]
    assert whole.pred_queries.window_start.max() == frames - 5
    assert whole.pred_queries.masks.shape[1] == 5, 'masks of all windows have one length'
    alone = frames % 5 or 5  # frames that the last window alone sees
    assert torch.equal(whole.pred_sem_seg.data[-alone:], last.pred_sem_seg.data[-alone:])
    assert whole.pred_sem_seg.data.shape == (frames, 32, 64)


def test_whole_mode_takes_a_clip_at_once(model, monkeypatch):
    clip = make_clip(8, (32, 64))
    sizes, extract = [], model.extract_feat
    monkeypatch.setattr(model, 'extract_feat', lambda *x: (sizes.append(x[0].shape[1]), extract(*x))[1])
    monkeypatch.setitem(model.test_cfg, 'mode', 'whole')
    (sample,) = predict(model, [clip])
    assert sizes == [8] and sample.pred_sem_seg.data.shape == (8, 32, 64)
    monkeypatch.setitem(model.test_cfg, 'mode', 'slide')
    monkeypatch.setitem(model.test_cfg, 'stride', 1)
    predict(model, [clip])
    assert sizes == [8] + [5] * 4


def test_inherited_methods_mean_something_for_clips(model):
    """`encode_decode`, `inference` and its modes, on clips."""
    clips = [make_clip(5, (32, 64)), make_clip(5, (32, 64))]
    data = prepare(model, clips)
    with torch.no_grad():
        queries = model.encode_decode(data['inputs'])
        assert [q.masks.shape[:2] for q in queries] == [(6, 5)] * 2
        metas = [sample.metainfo for sample in data['data_samples']]
        slide = model.inference(data['inputs'], metas)
        whole = model.whole_inference(data['inputs'], metas)
        samples = model.predict(**data)
    for (a, found), (b, _), sample in zip(slide, whole, samples, strict=True):
        assert torch.equal(a, b) and torch.equal(a, sample.pred_sem_seg.data)
        assert torch.equal(found.pairs.scores, sample.pred_queries.scores)
    with pytest.raises(NotImplementedError, match='test-time augmentation'):
        model.aug_test(data['inputs'], data['data_samples'])


def test_a_long_clip_takes_no_larger_batch_than_a_short_one(model, monkeypatch):
    sizes, extract = [], model.extract_feat
    monkeypatch.setattr(
        model, 'extract_feat', lambda imgs, audio: (sizes.append(tuple(imgs.shape[:2])), extract(imgs, audio))[1]
    )
    predict(model, [make_clip(10, (32, 64)), make_clip(12, (32, 64))])
    assert sorted(sizes) == [(1, 5), (2, 5), (2, 5)]


@pytest.mark.parametrize('stride', [5, 3])
def test_masks_at_full_size_are_held_for_one_window(model, monkeypatch, stride):
    """A clip may be hours long: what is painted is forgotten."""
    monkeypatch.setitem(model.test_cfg, 'stride', stride)
    name_pairs, masks, alive, waiting = model._name_pairs, [], [], []

    def watched(*args: object) -> InstanceData:
        alive.append(sum(ref() is not None for ref in masks))
        pairs = name_pairs(*args)
        masks.append(weakref.ref(pairs.masks))
        return pairs

    add = Blender.add
    monkeypatch.setattr(model, '_name_pairs', watched)
    monkeypatch.setattr(Blender, 'add', lambda s, *x: (add(s, *x), waiting.append(len(s)))[0])
    (sample,) = predict(model, [make_clip(41, (32, 64))])
    assert len(sample.pred_sem_seg.data) == 41 and len(masks) >= 9
    assert max(alive) <= 1 and max(waiting) <= 5 + 1


def test_vocabulary_may_differ_from_clip_to_clip(model):
    clips = [make_clip(2, (32, 64)) for _ in range(2)]
    clips[1][2].set_metainfo(dict(vocabulary=['emergency-car']))
    first, second = predict(model, clips)
    assert set(second.pred_queries.labels.tolist()) == {0}
    assert set(second.pred_sem_seg.data.unique().tolist()) <= {0, 1}
    assert same(first, predict(model, clips[:1])[0])


def test_order_of_names_renames_labels_and_nothing_else(model):
    clip = make_clip(2, (32, 64))
    first = predict(model, [clip])[0]
    clip[2].set_metainfo(dict(vocabulary=NAMES[::-1]))
    other = predict(model, [clip])[0]
    renamed = torch.tensor([0, 3, 2, 1], dtype=torch.uint8)[other.pred_sem_seg.data.long()]
    assert torch.equal(first.pred_sem_seg.data, renamed)


def test_pretrained_classifier_stays_out_of_checkpoints():
    stored = tiny_model().state_dict()
    own_file = tiny_model(classifier=dict(init_cfg=dict(type='Pretrained', checkpoint='no/file.pth')))
    left_out = stored.keys() - own_file.state_dict().keys()
    assert left_out and all(key.startswith('classifier.clip_model.') for key in left_out)


# ------------------------------------------------------------------ what is refused
@pytest.mark.parametrize('vocabulary', [(), None])
def test_a_vocabulary_is_needed(model, vocabulary):
    clip = make_clip(2, (32, 64))
    clip[2].set_metainfo(dict(vocabulary=vocabulary))
    with pytest.raises(ValueError, match='clip noise has an empty vocabulary'):
        predict(model, [clip])


def test_a_sample_without_vocabulary_is_refused(model):
    data = collate([make_clip(2, (32, 64))])
    del data['data_samples']
    data = model.data_preprocessor(data)
    data['inputs'] = {k: [x.double() for x in v] for k, v in data['inputs'].items()}
    with pytest.raises(ValueError, match='without a name has an empty vocabulary'):
        model.predict(**data)


def test_rows_of_audio_are_frames(model):
    imgs, audio, sample = make_clip(5)
    with pytest.raises(ValueError, match=r'one row of audio a frame.*\(5, 3, 64, 96\).*\(4, 1, 96, 64\)'):
        predict(model, [(imgs, audio[:4], sample)])


def test_a_model_without_classifier_trains_and_does_not_predict():
    config = tiny_config()
    config.pop('classifier')
    model = MODELS.build(config)
    clip = make_clip(2, (32, 64))
    assert losses_of(model, [clip])['decode.loss_sound'].isfinite()
    with pytest.raises(ValueError, match=r'no classifier: set model\.classifier'):
        predict(model, [clip])


@pytest.mark.parametrize(
    'bad',
    [
        *(dict(window=0), dict(window='5'), dict(window=True), dict(max_pairs=0)),
        *(dict(max_pairs=2.5), dict(mode='half'), dict(stride=0), dict(stride=6), dict(unknown=1)),
    ],
)
def test_test_cfg_is_checked(bad):
    with pytest.raises(ValueError, match='at least 1, got'):
        tiny_model(test_cfg=bad)


@pytest.mark.parametrize('bad', ['high', '0.3', None, True, [0.3], float('nan')])
def test_score_thr_is_a_number(bad):
    """Of any size: 2 lets no pair through, -1 all."""
    with pytest.raises(ValueError) as error:
        tiny_model(test_cfg=dict(score_thr=bad))
    assert str(error.value) == f'test_cfg.score_thr must be a number, got {bad!r}'
    for good in (2, -1.0):
        assert tiny_model(test_cfg=dict(score_thr=good)).test_cfg['score_thr'] == good


def test_test_cfg_has_defaults():
    config = tiny_config()
    config.pop('test_cfg')
    assert MODELS.build(config).test_cfg == dict(
        mode='slide', window=5, stride=None, max_pairs=10, score_thr=0.3, return_masks=False
    )


def test_masks_of_painted_pairs_on_request(model, monkeypatch):
    """At the size of the label map; painted in order they make it."""
    monkeypatch.setitem(model.test_cfg, 'return_masks', True)
    monkeypatch.setitem(model.test_cfg, 'score_thr', 0.0)
    (sample,) = predict(model, [make_clip(3, (30, 50))])
    pairs = sample.pred_queries
    assert len(pairs) and pairs.masks.shape == (len(pairs), 3, 30, 50)
    painted = torch.zeros(3, 30, 50, dtype=torch.uint8)
    for mask, label in zip(pairs.masks, pairs.labels, strict=True):
        painted[mask & (painted == 0)] = label + 1
    assert painted.any() and torch.equal(painted, sample.pred_sem_seg.data)
    monkeypatch.setitem(model.test_cfg, 'score_thr', 2.0)  # no pair at all
    (sample,) = predict(model, [make_clip(3, (30, 50))])
    assert sample.pred_queries.masks.shape == (0, 3, 30, 50)


# ------------------------------------------------------------------ without sound
DEAF = dict(
    audio_encoder=None,
    neck=dict(fusion=None),
    decode_head=dict(transformer_decoder=dict(audio_prompt=dict(type='NoAudioPrompt'))),
)


def test_a_model_without_sound_gives_the_same_for_any():
    torch.manual_seed(0)
    model = tiny_model(classifier=dict(sound_thr=None), **DEAF)
    imgs, audio, sample = make_clip()
    queries = [
        model.decode_head.predict(model.extract_feat(imgs[None].float(), heard[None]))[0]
        for heard in (audio, audio * 0, audio[:, 0, :3, 0])
    ]
    for other in queries[1:]:
        assert torch.equal(other.masks, queries[0].masks)
        assert torch.equal(other.scores, queries[0].scores)
    losses = losses_of(model, [(imgs, audio, sample)])
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize('part', ['neck', 'decode_head'])
def test_a_part_that_needs_sound_needs_its_encoder(part):
    with pytest.raises(ValueError, match=f'without audio_encoder cannot have a {part} that needs audio'):
        tiny_model(**{key: value for key, value in DEAF.items() if key != part})


def test_a_model_that_gates_what_it_hears_trains_and_predicts():
    """All parts of docs/hearing.md together: every weight of theirs learns, and silence gates what is found."""
    fusion = dict(type='GatedFusion')
    torch.manual_seed(0)
    model = tiny_model(
        audio_encoder=dict(tokens=dict(type='ClusterTokens')),
        neck=dict(fusion=fusion, loss_match=dict(type='SoundMatchLoss'), audio_dropout=0.1),
        decode_head=dict(frame_scores=[dict(type='FrameSoundScore'), dict(type='PresenceScore')]),
    ).train()
    clips = [make_clip(), make_clip(), make_clip(3)]
    for _, _, sample in clips:
        sample.set_metainfo(dict(names=(NAMES[0], NAMES[2])))
    losses = losses_of(model, clips)
    assert losses['neck.loss_match'] > 0 and losses['decode.d0.loss_presence'] > 0
    sum(losses.values()).backward()
    parts = (model.audio_encoder.tokens, model.neck.fusion, model.decode_head.frame_scores)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for part in parts for p in part.parameters())
    with torch.no_grad():
        model.decode_head.frame_scores[0].bias.fill_(-100)
    assert not any(sample.pred_sem_seg.data.any() for sample in predict(model.eval(), clips))
