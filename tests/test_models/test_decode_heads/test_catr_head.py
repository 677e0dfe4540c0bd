# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from tiny_model import draw_weights

from ovavss_mm.models import CATRHead

C, DA, Q = 64, 6, 7
CRITERION = dict(
    match_costs=[dict(type='mmdet.ClassificationCost'), dict(type='mmdet.DiceCost', pred_act=True, eps=1.0)],
    loss_focal=dict(type='MaskFocalLoss'),
    loss_dice=dict(type='mmdet.DiceLoss', naive_dice=True, eps=1.0),
)
LAYER = dict(num_heads=4, feedforward_channels=32)


def make_head(num_classes: int = 1, **options) -> CATRHead:
    torch.manual_seed(0)
    options = dict(criterion=CRITERION, num_layers=2, unused_positions=None) | options
    return (
        draw_weights(CATRHead(num_classes, C, DA, Q, layer_cfg=LAYER, mask_channels=8, **options), 0.3).double().eval()
    )


def make_clips(batch: int, frames: int) -> tuple:
    torch.manual_seed(1)
    maps = [torch.randn(batch * frames, C, 64 // s, 64 // s).double() for s in (4, 8, 16, 32)]
    return maps, torch.randn(batch, frames, DA).double()


def make_samples(batch: int, frames: int, annotated: list[int]) -> list[SegDataSample]:
    samples = []
    for b in range(batch):
        labels = torch.full((frames, 32, 32), 255, dtype=torch.uint8)
        labels[annotated] = 0
        labels[annotated, 5:20, 3 + b : 20] = 1 + b
        samples.append(SegDataSample())
        samples[-1].gt_sem_seg = PixelData(data=labels)
    return samples


def test_frames_that_are_wanted_are_those_of_all():
    head, x = make_head(), make_clips(2, 10)
    all_frames, some = head(x), head(x, torch.tensor([0, 13, 7]))
    assert all_frames.mask_logits.shape == (2, 20, Q, 4, 4) and all_frames.class_logits.shape == (2, 20, Q, 2)
    for one, other in zip(all_frames, some, strict=True):
        assert torch.allclose(one[:, [0, 13, 7]], other, atol=1e-8)


def test_windows_do_not_see_each_other():
    head, (maps, audio) = make_head(), make_clips(1, 10)
    whole = head.predict((maps, audio))
    half = head.predict(([m[5:] for m in maps], audio[:, 5:]))
    assert torch.allclose(whole[:, 5:], half, atol=1e-8)


@pytest.mark.parametrize('frames', [1, 3, 7])
def test_a_clip_that_windows_do_not_divide_is_filled_up_with_its_last_frame(frames):
    head, (maps, audio) = make_head(), make_clips(2, frames)
    at = torch.arange(-(-frames // 5) * 5).clamp(max=frames - 1)
    filled = [m.unflatten(0, (2, frames))[:, at].flatten(0, 1) for m in maps], audio[:, at]
    assert torch.allclose(head.predict((maps, audio)), head.predict(filled)[:, :frames], atol=1e-8)


def test_one_class_gives_the_mask_of_the_best_query_of_each_frame():
    head, x = make_head(), make_clips(1, 5)
    classes, masks = (part[-1] for part in head(x))
    best = classes.softmax(-1)[..., 0].argmax(1)
    logits = head.predict(x)
    assert logits.shape == (1, 5, 1, 4, 4)
    assert all(torch.equal(logits[0, t, 0], masks[t, best[t]].float()) for t in range(5))


def test_names_weigh_masks_and_background_is_where_none_reaches_half():
    head, x = make_head(3), make_clips(1, 5)
    logits = head.predict(x)
    assert logits.shape == (1, 5, 4, 16, 16)
    classes, masks = (part[-1] for part in head(x))
    masks = torch.nn.functional.interpolate(masks, scale_factor=4, mode='bilinear').sigmoid()
    evidence = torch.einsum('mqn,mqhw->mnhw', classes.softmax(-1)[..., :-1], masks)
    wanted = torch.where(evidence.amax(1) > 0.5, evidence.argmax(1) + 1, 0)
    assert torch.equal(logits[0].argmax(1), wanted) and 0 < (wanted == 0).float().mean() < 1


def test_trains_on_annotated_frames_and_all_that_is_used_has_a_gradient():
    head, x = make_head(unused_positions=9).train(), make_clips(2, 5)
    losses = head.loss(x, make_samples(2, 5, [0]))
    assert set(losses) == {f'{p}loss_{n}' for p in ('', 'd0.') for n in ('cls', 'focal', 'dice', 'bce')}
    sum(losses.values()).backward()
    without = {name for name, p in head.named_parameters() if p.grad is None}
    last = 'temporal_layers.2.audio_attn.'  # what it gives goes nowhere, as published
    assert {name for name in without if not name.startswith(('unused.', last))} == set()
    assert all(p.grad is None for p in head.unused.parameters())


def test_published_oddities_are_keys():
    x, plain = make_clips(1, 5), make_head()
    for key in ('squared_product', 'first_frame_audio', 'shared_gate'):
        other = make_head(temporal_cfg={key: False})
        other.load_state_dict(plain.state_dict())
        assert not torch.allclose(other.predict(x), plain.predict(x)), key
    finer = make_head(mask_levels=(2, 1))
    assert finer.predict(x).shape == (1, 5, 1, 8, 8)


def test_wrong_values_are_named():
    with pytest.raises(ValueError, match=r'mask_levels two of 0 to 3, got \(4, 2\)'):
        CATRHead(mask_levels=(4, 2))
    with pytest.raises(ValueError, match="'num_queries': 0"):
        CATRHead(num_queries=0)
    with pytest.raises(ValueError, match='set decode_head.criterion'):
        make_head(criterion=None).loss(make_clips(1, 5), make_samples(1, 5, [0]))
