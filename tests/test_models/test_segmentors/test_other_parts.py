# SPDX-License-Identifier: Apache-2.0
"""Parts that are none of ours take their place in the model by the contracts of `interfaces` alone."""

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from tiny_model import CLASSIFIER, NAMES, SMALL, make_clip, prepare, tiny_config
from torch import Tensor, nn

from ovavss_mm.models import AVEncoderDecoder

TOKENS, AUDIO, F4 = 3, 16, SMALL['neck']['in_channels'][0]


class SeveralTokens(BaseModule):
    """An audio encoder of S tokens a frame."""

    out_channels = AUDIO

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(64, AUDIO)

    def forward(self, audio: Tensor) -> Tensor:
        return self.proj(audio[:, 0, :TOKENS])  # (M, 1, 96, 64) -> (M, S, Da)


class FusionOverTime(BaseModule):
    """Every frame sees the mean sound of its clip."""

    def __init__(self, visual_channels: int, audio_channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(audio_channels, visual_channels)

    def forward(self, visual: Tensor, audio: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
        clip = audio.unflatten(0, (-1, num_frames)).mean((1, 2))  # (B, Da)
        return visual + self.proj(clip).repeat_interleave(num_frames, 0)[:, None], audio


class Dense(BaseModule):
    """Logits (B, T, K, h4, w4), nothing else: no attributes of mmseg's heads."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(F4, classes, 1)

    def predict(self, x: tuple, batch_img_metas: object = None, test_cfg: object = None) -> Tensor:
        feats, audio = x
        return self.conv(feats[0]).unflatten(0, audio.shape[:2])

    def loss(self, x: tuple, data_samples: list, train_cfg: object = None) -> dict[str, Tensor]:
        return dict(loss_dense=self.predict(x).square().mean())


class FrameQueries(BaseModule):
    """Queries of single frames, in another order in each."""

    per_frame = True

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(4, F4))

    def predict(self, x: tuple, batch_img_metas: object = None, test_cfg: object = None) -> list:
        feats, audio = x
        masks = torch.einsum('qc,mchw->mqhw', self.query, feats[0] - feats[0].mean((2, 3), True))
        clips = []
        for clip in masks.unflatten(0, audio.shape[:2]):
            orders = [torch.arange(4).roll(t) for t in range(len(clip))]
            frames = [InstanceData(scores=torch.ones(4), masks=mask[:, None], rows=torch.arange(4)) for mask in clip]
            clips.append([frame[order] for frame, order in zip(frames, orders, strict=True)])
        return clips

    def loss(self, x: tuple, data_samples: list, train_cfg: object = None) -> dict[str, Tensor]:
        return dict(loss_queries=self.query.square().mean())


class ByRow(BaseModule):
    """A tracker that knows the queries by their rows."""

    def forward(self, frames: list[InstanceData]) -> InstanceData:
        frames = [frame[frame.rows.argsort()] for frame in frames]
        return InstanceData(scores=frames[0].scores, masks=torch.cat([frame.masks for frame in frames], 1))


@pytest.fixture(autouse=True, scope='module')
def registered():
    """The parts, for as long as these tests run."""
    parts = (SeveralTokens, FusionOverTime, Dense, FrameQueries, ByRow)
    for part in parts:
        MODELS.register_module(module=part)
    yield
    for part in parts:
        MODELS._module_dict.pop(part.__name__)


def build(**deltas: object) -> AVEncoderDecoder:
    torch.manual_seed(0)
    model = MODELS.build(tiny_config(**deltas))
    return model.eval()


def train_and_predict(model: AVEncoderDecoder, frames: int = 7) -> tuple[dict, list]:
    """Losses with gradients, and samples, of two clips."""
    clips = [make_clip(frames, (32, 64)), make_clip(2, (32, 64))]
    losses = model.loss(**prepare(model, clips, training=True))
    sum(losses.values()).backward()
    with torch.no_grad():
        samples = model.predict(**prepare(model, clips))
    assert [len(s.pred_sem_seg.data) for s in samples] == [frames, 2]
    return losses, samples


def head_of(kind: str, **kwargs: object) -> dict:
    return dict(decode_head=dict(_delete_=True, type=kind, **kwargs))


def test_several_audio_tokens_a_frame_reach_the_queries():
    """The neck took them, the head did not."""
    model = build(audio_encoder=dict(_delete_=True, type='SeveralTokens'))
    train_and_predict(model)
    assert model.audio_encoder.proj.weight.grad.abs().max() > 0
    clip = make_clip(5, (32, 64))
    data = prepare(model, [clip])['inputs']
    imgs, audio = torch.stack(data['imgs']), torch.stack(data['audio'])
    assert model.extract_feat(imgs, audio)[1].shape == (1, 5, TOKENS, AUDIO)
    other = audio.clone()
    other[:, :, :, TOKENS - 1] += 5  # the last token of each frame
    before, after = (model.decode_head(model.extract_feat(imgs, x)) for x in (audio, other))
    assert (before.sound_logits[-1] - after.sound_logits[-1]).abs().max() > 1e-6


def test_fusion_over_time_knows_where_clips_begin():
    model = build(neck=dict(fusion=dict(_delete_=True, type='FusionOverTime')))
    train_and_predict(model)
    imgs, audio = torch.randn(2, 3, 3, 32, 64), torch.randn(2, 3, 1, 96, 64)
    other = audio.clone()
    other[0, 2] += 1  # one second of the first clip
    before, after = (model.extract_feat(imgs, x)[0][1].unflatten(0, (2, 3)) for x in (audio, other))
    differs = (before - after).abs().flatten(2).amax(-1) > 1e-6
    assert differs.tolist() == [[True] * 3, [False] * 3]


def test_dense_logits_are_painted():
    model = build(classifier=None, **head_of('Dense', classes=len(NAMES) + 1))
    losses, samples = train_and_predict(model)
    assert list(losses) == ['decode.loss_dense']
    model.test_cfg['mode'] = 'whole'
    (imgs, audio, sample) = make_clip(2, (32, 64))
    data = prepare(model, [(imgs, audio, sample)])
    with torch.no_grad():
        (logits,) = model.encode_decode(data['inputs'])
        (sample,) = model.predict(**data)
    expected = nn.functional.interpolate(logits, (32, 64), mode='bilinear').argmax(1)
    assert torch.equal(sample.pred_sem_seg.data.long(), expected)


def test_a_dense_head_of_other_classes_is_refused():
    model = build(classifier=None, **head_of('Dense', classes=7))
    with pytest.raises(ValueError, match='6 classes apart, the vocabulary has 3 names'):
        model.predict(**prepare(model, [make_clip(2, (32, 64))]))


def test_a_tracker_gives_queries_of_frames_one_order():
    parts = dict(tracker=dict(type='ByRow'), classifier=dict(CLASSIFIER, sound_thr=None))
    model = build(test_cfg=dict(score_thr=0.0), **parts, **head_of('FrameQueries'))
    train_and_predict(model)
    data = prepare(model, [make_clip(5, (32, 64))])
    with torch.no_grad():
        (queries,) = model.encode_decode(data['inputs'])
        x = model.extract_feat(*(torch.stack(data['inputs'][key]) for key in ('imgs', 'audio')))
        (frames,) = model.decode_head.predict(x)
    assert queries.masks.shape[:2] == (4, 5)
    for t, frame in enumerate(frames):
        assert torch.equal(queries.masks[:, t], frame.masks.roll(-t, 0)[:, 0])


def test_queries_of_frames_need_a_tracker_and_others_take_none(monkeypatch):
    with pytest.raises(ValueError, match='FrameQueries gives queries of single frames: set model.tracker'):
        build(**head_of('FrameQueries'))
    with pytest.raises(ValueError, match='AudioMaskDecHead predicts whole clips: set model.tracker=None'):
        build(tracker=dict(type='MomentumTracker'))
    monkeypatch.setattr(FrameQueries, 'per_frame', False)
    model = build(**head_of('FrameQueries'))
    with pytest.raises(ValueError, match='its class must say per_frame = True'):
        model.predict(**prepare(model, [make_clip(2, (32, 64))]))


def test_a_model_may_have_no_neck():
    model = build(neck=None, classifier=None, **head_of('Dense', classes=4))
    assert not model.with_neck
    train_and_predict(model)
