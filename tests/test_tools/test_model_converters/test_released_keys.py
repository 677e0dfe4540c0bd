# SPDX-License-Identifier: Apache-2.0
import published
import pytest
import torch
from mmseg.models.utils.embed import PatchMerging
from released.keys import convert, rename

BACKBONES = ['r50', 'swin-b']


@pytest.mark.parametrize('backbone', BACKBONES)
def test_every_published_name_has_a_place_of_its_own_or_a_reason(backbone):
    state = published.published_state(published.shapes(backbone))
    result = convert(state)
    assert not result.unplaced
    assert set(result.mapped) | set(result.dropped) == set(state)
    assert not set(result.mapped) & set(result.dropped)
    assert len(set(result.mapped.values())) == len(result.mapped) == len(result.state)
    assert len(result.dropped) == (3 if backbone == 'r50' else 27)
    for key, name in result.mapped.items():
        assert result.state[name].shape == state[key].shape
        assert torch.equal(result.state[name], state[key]), 'the same weight, as each is constant'


def test_stages_of_the_resnet_are_counted_from_one():
    assert rename('backbone.res2.0.conv1.weight') == 'backbone.layer1.0.conv1.weight'
    assert rename('backbone.res5.2.conv3.norm.bias') == 'backbone.layer4.2.bn3.bias'


def test_projections_go_from_high_to_low_resolution_here():
    for i, ours in enumerate((2, 1, 0)):
        name = rename(f'sem_seg_head.pixel_decoder.input_proj.{i}.0.weight')
        assert name == f'neck.input_convs.{ours}.conv.weight'


@pytest.mark.parametrize('key', ['query_feat', 'static_query'])
def test_query_features_have_two_names(key):
    assert rename(f'sem_seg_head.predictor.{key}.weight') == 'decode_head.query_feat.weight'


@pytest.mark.parametrize(
    'key',
    [
        'odd.weight',
        'backbone.stem.conv1.weight\n',
        'x.backbone.stem.conv1.weight',
        'sem_seg_head.predictor.mask_embed.layers.3.weight',
        'criterion.empty_weights',
    ],
)
def test_unknown_names_have_no_place(key):
    result = convert({key: torch.zeros(1)})
    assert result.unplaced == {key: 'no rule knows this name'} and not result.state


def test_two_names_cannot_have_one_place():
    keys = [f'sem_seg_head.predictor.{name}.weight' for name in ('query_feat', 'static_query')]
    result = convert({key: torch.full((2, 2), float(i)) for i, key in enumerate(keys)})
    assert list(result.mapped) == keys[:1]
    assert result.unplaced == {keys[1]: 'decode_head.query_feat.weight is taken by another key'}
    assert result.state['decode_head.query_feat.weight'].eq(0).all()


def merge_as_published(x, norm_weight, norm_bias, reduction):
    """Swin's own patch merging of (B, H, W, C): four patches one after the other."""
    parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
    merged = torch.cat(parts, -1)
    merged = torch.nn.functional.layer_norm(merged, merged.shape[-1:], norm_weight, norm_bias)
    return merged @ reduction.T


def test_patches_of_swin_are_merged_as_published():
    channels, x = 3, torch.randn(2, 4, 6, 3)
    prefix = 'backbone.layers.0.downsample.'
    state = {
        prefix + 'norm.weight': torch.randn(12),
        prefix + 'norm.bias': torch.randn(12),
        prefix + 'reduction.weight': torch.randn(6, 12),
    }
    merging = PatchMerging(channels, 6)
    converted = convert(state).state
    merging.load_state_dict({k.rsplit('downsample.')[1]: v for k, v in converted.items()})
    ours, size = merging(x.flatten(1, 2), (4, 6))
    theirs = merge_as_published(x, *state.values())
    assert size == (2, 3)
    torch.testing.assert_close(ours, theirs.flatten(1, 2))
    plain = {k.rsplit('downsample.')[1]: v for k, v in state.items()}
    merging.load_state_dict(plain)
    assert not torch.allclose(merging(x.flatten(1, 2), (4, 6))[0], ours), 'order matters'


@pytest.mark.parametrize('shape', [(), (7,), (6, 10)])
def test_wrong_shapes_pass_unchanged_for_the_check_of_shapes(shape):
    key = 'backbone.layers.0.downsample.norm.weight'
    (value,) = convert({key: torch.zeros(shape)}).state.values()
    assert value.shape == shape
