# SPDX-License-Identifier: Apache-2.0
"""Autocast and translation of the whole model."""

import pytest
import torch
from tiny_model import NAMES, give_masks_edges, make_clip, prepare, tiny_model
from torch import Tensor, nn

from ovavss_mm.models.segmentors.av_encoder_decoder import STAGES

EVERY = dict(sound_thr=None, logit_scale=20.0)


def make(**kwargs) -> nn.Module:
    """A model whose masks have edges; always the same."""
    torch.manual_seed(0)
    model = tiny_model(classifier=EVERY, test_cfg=dict(score_thr=0.1), **kwargs)
    give_masks_edges(model.decode_head)
    return model


def make_clips() -> list[tuple]:
    torch.manual_seed(1)
    return [make_clip(2, (32, 64)) for _ in range(2)]


def losses_of(model: nn.Module, clips: list[tuple]) -> dict[str, Tensor]:
    return model(**prepare(model, clips, training=True), mode='loss')


def train(precision: str, iterations: int = 50) -> Tensor:
    """Losses (iterations,) of a training on two clips, on the same points whatever the precision."""
    model, clips = make(precision=precision), make_clips()
    optimizer = torch.optim.AdamW(model.train().parameters(), 1e-3)
    history = []
    for iteration in range(iterations):
        torch.manual_seed(iteration)
        total = sum(losses_of(model, clips).values())
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append(total.detach())
    return torch.stack(history)


def test_training_in_bfloat16_goes_as_in_float32():
    """The losses fall, start together and stay together."""
    exact, mixed = train('float32'), train('bfloat16')
    assert exact[-10:].mean() < 0.9 * exact[:10].mean()
    assert not torch.equal(exact, mixed)
    assert torch.allclose(exact[:5], mixed[:5], rtol=0.02)
    averages = [history.unflatten(0, (5, 10)).mean(1) for history in (exact, mixed)]
    assert torch.allclose(*averages, rtol=0.2)


def test_only_the_network_computes_in_bfloat16():
    """Weights, losses, scores and embeddings of names are float32."""
    model, clips = make(precision='bfloat16'), make_clips()
    dtypes = []
    model.neck.input_convs[0].conv.register_forward_hook(
        lambda *args: dtypes.append(args[-1].dtype)
    )
    losses = losses_of(model, clips)
    sample = model(**prepare(model, clips), mode='predict')[0]
    assert dtypes == [torch.bfloat16] * 2
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert sample.pred_queries.scores.dtype == torch.float32 and len(sample.pred_queries)
    expected = make().classifier.text_embeddings(NAMES)
    assert torch.equal(model.classifier.text_embeddings(NAMES), expected)


def test_label_maps_are_nearly_those_of_float32():
    clips = make_clips()
    maps = []
    for precision in ('float32', 'bfloat16'):
        model = make(precision=precision)
        samples = model(**prepare(model, clips), mode='predict')
        maps.append(torch.stack([sample.pred_sem_seg.data for sample in samples]))
    assert maps[0].any()
    assert (maps[0] == maps[1]).float().mean() > 0.95  # of noise, by drawn weights


@pytest.mark.parametrize('bad', [dict(precision='float16'), dict(compile=['head'])])
def test_precision_and_stages_are_checked(bad):
    with pytest.raises(ValueError, match="'float16'|'head'"):
        make(**bad)


def test_stages_are_handed_to_the_compiler(monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, 'compile', lambda self: compiled.append(type(self).__name__))
    model = make(compile=list(STAGES))
    layers = len(model.decode_head.transformer_decoder.layers)
    others = ['ResNet', 'AVFusionNeck', 'FusedPixelDecoder', 'VisionTransformer']
    assert compiled == [*others[:3], *['AudioMaskDecoderLayer'] * layers, others[3]]
