# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tiny_model import draw_weights, tiny_config

SIZES = [(16, 24), (8, 12), (4, 6), (2, 3)]  # f4 to f32
CRITERION = dict(loss_sound=dict(no_object_weight=0.4))


def make_head(**deltas):
    prompt = dict(audio_prompt=dict(type='NoAudioPrompt'))
    deltas = dict(type='FrameQueryHead', transformer_decoder=prompt, criterion=CRITERION) | deltas
    torch.manual_seed(0)
    return draw_weights(MODELS.build(tiny_config(decode_head=deltas).decode_head)).eval()


def make_input(batch: int, frames: int):
    torch.manual_seed(1)
    maps = [torch.randn(batch * frames, c, *size) for c, size in zip([8, 32, 32, 32], SIZES, strict=True)]
    return maps, torch.zeros(batch, frames, 0)


def make_sample(frames: int = 3, annotated: int = 3, **metainfo) -> SegDataSample:
    labels = torch.zeros(frames, 64, 96, dtype=torch.uint8)
    labels[:, 8:40, 10:50] = 3
    labels[1:, 40:60, 60:90] = 1
    labels[annotated:] = 255
    return SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=metainfo)


@torch.no_grad()
def test_every_frame_is_decoded_by_itself():
    head = make_head(text_channels=8, with_iou=True, object_hidden=2)
    (maps, audio), order = make_input(2, 3), [4, 2, 0, 5, 1, 3]
    one = [frame for clip in head.predict((maps, audio)) for frame in clip]
    moved = head.predict(([x[order] for x in maps], audio.flatten(0, 1)[:, None]))
    assert [len(clip) for clip in moved] == [1] * 6
    for i, (clip,) in zip(order, moved, strict=True):
        assert set(clip.keys()) == {'scores', 'masks', 'object_logits', 'query_embeds', 'text_embeds', 'ious'}
        assert clip.masks.shape == (6, 1, 16, 24)
        for key, value in clip.items():
            assert torch.allclose(value, one[i][key], atol=1e-5), key
    assert torch.allclose(one[0].text_embeds.norm(dim=-1), torch.ones(6))
    assert ((one[0].ious > 0) & (one[0].ious < 1)).all()


def test_losses_see_annotated_frames_only():
    head = make_head(with_iou=True)
    maps, audio = make_input(1, 3)
    losses = []
    for changed in (maps, [torch.cat([x[:1], 5 * x[1:]]) for x in maps]):
        torch.manual_seed(2)
        losses.append(head.loss((changed, audio), [make_sample(annotated=1)]))
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.allclose(losses[0][key], losses[1][key], atol=1e-5) for key in losses[0])
    assert {'loss_object', 'loss_mask', 'loss_dice', 'loss_iou', 'd0.loss_object'} <= set(losses[0])


def test_names_are_compared_with_those_of_training():
    head = make_head(text_channels=8)
    rows = torch.randn(2, 8)
    sample = make_sample(text_rows=rows, text_columns=torch.tensor([1, -1, 0]))
    head.loss(make_input(1, 3), [sample])['loss_name'].backward()
    assert head.text_embed.layers[-1].weight.grad.abs().sum() > 0


def test_every_weight_has_a_gradient_and_silence_has_losses():
    head = make_head(with_iou=True)
    for sample in (make_sample(), SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(3, 64, 96, dtype=torch.uint8)))):
        head.zero_grad()
        losses = head.loss(make_input(1, 3), [sample])
        sum(losses.values()).backward()
        assert all(value.isfinite() for value in losses.values())
        assert all(p.grad is not None for name, p in head.named_parameters())


def test_a_clip_without_an_annotated_frame_has_losses_of_0():
    head = make_head(text_channels=8, with_iou=True)
    sample = make_sample(annotated=0, text_rows=torch.randn(2, 8), text_columns=torch.tensor([1, -1, 0]))
    losses = head.loss(make_input(1, 3), [sample])
    sum(losses.values()).backward()
    assert len(losses) == 25 and all(value.item() == 0 for value in losses.values())


def test_a_target_of_no_base_name_is_named():
    sample = make_sample(text_rows=torch.randn(2, 8), text_columns=torch.tensor([1, 0, -1]))
    with pytest.raises(ValueError, match='a target is name 2 of the vocabulary .from 0., which is no base name'):
        make_head(text_channels=8).loss(make_input(1, 3), [sample])


def test_a_cost_of_names_needs_text_embeddings():
    costs = [dict(type='JointScoreCost')]
    with pytest.raises(ValueError, match='compares names: set decode_head.text_channels'):
        make_head(criterion=dict(CRITERION, match_costs=costs))


@pytest.mark.parametrize(
    'deltas', [dict(object_hidden=-1), dict(num_classes=3), dict(transformer_decoder=dict(num_layers=4))]
)
def test_wrong_arguments(deltas):
    with pytest.raises(ValueError, match='object_hidden must not be negative, num_classes 1, and the prompt'):
        make_head(**deltas)
