# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from tiny_model import draw_weights

from ovavss_mm.models import AVFusionNeck

CHANNELS = [4, 6, 8, 10]


@pytest.fixture(scope='module')
def neck():
    torch.manual_seed(0)
    neck = AVFusionNeck(
        CHANNELS, 16, 12, dict(type='GN', num_groups=4), dict(type='BiAttention', embed_dims=8, num_heads=2)
    )
    return draw_weights(neck).double().eval()


def make_maps(frames: int = 3, height: int = 8, width: int = 12) -> list[torch.Tensor]:
    """Maps f4, f8, f16, f32; each is half as large as the one before, rounded up."""
    maps = []
    for channels in CHANNELS:
        maps.append(torch.randn(frames, channels, height, width, dtype=torch.double))
        height, width = (height + 1) // 2, (width + 1) // 2
    return maps


def make_audio(frames: int = 3) -> torch.Tensor:
    return torch.randn(frames, 12, dtype=torch.double)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 17), st.integers(1, 17))
def test_shapes(neck, frames, height, width):
    feats = make_maps(frames, height, width)
    maps, audio = neck(feats, make_audio(frames), 1)
    assert maps[0] is feats[0], 'f4 passes unchanged'
    for new, old in zip(maps[1:], feats[1:], strict=True):
        assert new.shape == (frames, 16, *old.shape[-2:])
    assert audio.shape == (frames, 12)


def test_joins_levels_from_low_to_high_resolution_and_parts_them_again(neck):
    feats, audio = make_maps(), make_audio()
    maps, fused = neck(feats, audio, 1)
    projected = [conv(x) for conv, x in zip(neck.input_convs, feats[1:], strict=True)]
    tokens = [x.flatten(2).mT for x in projected]
    visual, expected = neck.fusion(torch.cat(tokens[::-1], 1), audio[:, None])
    low, middle, high = visual.split([t.shape[1] for t in tokens[::-1]], 1)
    for new, part, old in zip(maps[1:], (high, middle, low), projected, strict=True):
        assert torch.equal(new, part.mT.unflatten(2, old.shape[-2:]))
    assert torch.equal(fused, expected[:, 0])


def test_sound_of_a_frame_changes_that_frame_only(neck):
    feats, audio = make_maps(), make_audio()
    other = audio.clone()
    other[1] += torch.randn(12)
    (before, heard), (after, other_heard) = neck(feats, audio, 1), neck(feats, other, 1)
    for x, y in zip((*before[1:], heard), (*after[1:], other_heard), strict=True):
        assert torch.equal(x[[0, 2]], y[[0, 2]])
        assert (x[1] - y[1]).abs().max() > 1e-3


@pytest.mark.parametrize('level', [1, 2, 3])
def test_a_pixel_of_any_level_changes_the_sound_of_its_frame_only(neck, level):
    feats, audio = make_maps(), make_audio()
    before = neck(feats, audio, 1)[1]
    feats[level] = feats[level].clone()
    feats[level][2, :, 0, -1] += 3.0
    after = neck(feats, audio, 1)[1]
    assert torch.equal(before[:2], after[:2])
    assert (before[2] - after[2]).abs().max() > 1e-5


def test_one_token_a_frame_may_come_with_or_without_its_axis(neck):
    feats, audio = make_maps(), make_audio()
    maps, fused = neck(feats, audio, 1)
    maps_of_tokens, tokens = neck(feats, audio.unsqueeze(1), 1)
    assert tokens.shape == (3, 1, 12) and torch.equal(tokens[:, 0], fused)
    assert all(torch.equal(x, y) for x, y in zip(maps, maps_of_tokens, strict=True))


def test_a_frame_may_have_several_audio_tokens(neck):
    feats, audio = make_maps(), torch.randn(3, 4, 12, dtype=torch.double)
    maps, fused = neck(feats, audio, 1)
    assert fused.shape == (3, 4, 12)
    shuffled_maps, shuffled = neck(feats, audio[:, [2, 0, 3, 1]], 1)
    assert torch.allclose(shuffled, fused[:, [2, 0, 3, 1]])
    assert all(torch.allclose(x, y) for x, y in zip(maps, shuffled_maps, strict=True))


def test_projections_start_with_xavier_and_no_bias():
    neck = draw_weights(AVFusionNeck(CHANNELS, 32, 12, fusion=dict(type='BiAttention', embed_dims=8, num_heads=2)))
    neck.init_weights()
    for conv, channels in zip(neck.input_convs, CHANNELS[1:], strict=True):
        bound = (6 / (channels + 32)) ** 0.5
        assert 0.8 * bound < conv.conv.weight.abs().max() <= bound
        assert not conv.conv.bias.any()
    assert not neck.fusion.out_v.bias.any(), 'the fusion is initialised as well'


# ------------------------------------------------------------------ variants
def make_variant(**kwargs) -> AVFusionNeck:
    kwargs = dict(fusion=dict(type='BiAttention', embed_dims=8, num_heads=2)) | kwargs
    neck = AVFusionNeck(CHANNELS, 16, 12, dict(type='GN', num_groups=4), **kwargs)
    return draw_weights(neck).double().eval()


def test_without_fusion_nothing_sees_the_sound_nor_hears_the_picture():
    neck, feats = make_variant(fusion=None), make_maps()
    for audio in (make_audio(), make_audio() + 1):
        maps, fused = neck(feats, audio, 1)
        assert fused is audio and maps[0] is feats[0]
        for new, conv, old in zip(maps[1:], neck.input_convs, feats[1:], strict=True):
            assert torch.equal(new, conv(old))


def test_add_fusion_adds_the_projected_sound_to_every_position():
    neck, feats, audio = make_variant(fusion=dict(type='AddFusion')), make_maps(), make_audio()
    maps, fused = neck(feats, audio, 1)
    assert torch.equal(fused, audio)
    added = audio @ neck.fusion.proj.weight.T + neck.fusion.proj.bias
    for new, conv, old in zip(maps[1:], neck.input_convs, feats[1:], strict=True):
        assert torch.allclose(new, conv(old) + added[:, :, None, None])
    tokens = torch.stack([audio, audio + 2], 1)
    assert torch.allclose(neck(feats, tokens, 1)[0][2], neck(feats, audio + 1, 1)[0][2])


@pytest.mark.parametrize('levels', [('f32',), ('f8', 'f32'), ['f16']])
def test_levels_that_are_not_fused_are_untouched(levels):
    neck, feats, audio = make_variant(fused_levels=levels), make_maps(), make_audio()
    maps, fused = neck(feats, audio, 1)
    assert (fused - audio).abs().max() > 1e-3
    projected = [conv(x) for conv, x in zip(neck.input_convs, feats[1:], strict=True)]
    for name, new, plain in zip(('f8', 'f16', 'f32'), maps[1:], projected, strict=True):
        assert torch.equal(new, plain) == (name not in levels)
        feats[('f4', 'f8', 'f16', 'f32').index(name)] += 1.0 if name not in levels else 0.0
    assert torch.equal(neck(feats, audio, 1)[1], fused), 'the sound hears the fused levels only'


@pytest.mark.parametrize('levels', [(), 'f32', ('f4',), ('f8', 'f8')])
def test_fused_levels_are_checked(levels):
    with pytest.raises(ValueError, match=r"must be some of \('f8', 'f16', 'f32'\), got"):
        make_variant(fused_levels=levels)


def test_four_levels_are_needed():
    with pytest.raises(ValueError, match=r'f4, f8, f16, f32, got \[4, 6\]'):
        AVFusionNeck([4, 6], 16)


# ------------------------------------------------------------------ hearing
def make_gated(**kwargs) -> AVFusionNeck:
    fusion = dict(type='GatedFusion', embed_dims=8, num_heads=2, dropout=0.0)
    return draw_weights(AVFusionNeck(CHANNELS, 16, 12, dict(type='GN', num_groups=4), fusion, **kwargs)).double()


def make_samples(clips: int, frames: int) -> list[SegDataSample]:
    samples = []
    for clip in range(clips):
        labels = torch.zeros(frames, 32, 48, dtype=torch.uint8)
        labels[:, 8:24, 8:32] = clip + 1
        sample = SegDataSample(metainfo=dict(vocabulary=('dog', 'cat'), names=(('dog', 'cat')[clip],)))
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return samples


@pytest.mark.parametrize('tokens', [(), (3,)], ids=['one token', 'three'])
def test_the_match_of_positions_and_sounds_is_trained(tokens):
    neck = make_gated(loss_match=dict(type='SoundMatchLoss', loss_weight=2.0))
    feats, audio = make_maps(4), torch.randn(4, *tokens, 12, dtype=torch.double, requires_grad=True)
    losses = neck.loss(feats, audio, make_samples(2, 2))
    assert list(losses) == ['loss_match'] and losses['loss_match'] > 0
    losses['loss_match'].backward()
    grads = {name.split('.')[1]: p.grad for name, p in neck.named_parameters() if p.grad is not None}
    learned = {name for name, grad in grads.items() if grad.abs().sum() > 0}
    assert {'query_v', 'key_a', 'norm_v', 'norm_a', 'bias', '0', '1', '2'} <= learned
    assert (audio.grad.flatten(1).abs().sum(1) > 0).all()
    assert make_gated().loss(feats, audio, make_samples(2, 2)) == {}


def test_audio_channels_are_dropped_in_training_only():
    neck, feats, audio = make_gated(audio_dropout=0.5), make_maps(), make_audio()
    assert not torch.equal(neck(feats, audio, 1)[1], neck(feats, audio, 1)[1])
    neck.eval()
    assert torch.equal(neck(feats, audio, 1)[1], neck(feats, audio, 1)[1])


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        (dict(audio_dropout=1.0), r'audio_dropout must be in \[0, 1\), got 1.0'),
        (dict(fusion=dict(type='AddFusion'), loss_match=dict(type='SoundMatchLoss')), 'the fusion is AddFusion'),
    ],
)
def test_ways_of_hearing_are_checked(wrong, words):
    with pytest.raises(ValueError, match=words):
        AVFusionNeck(CHANNELS, 16, 12, dict(type='GN', num_groups=4), **wrong)
