# SPDX-License-Identifier: Apache-2.0
"""CLIP's ResNet as a frozen backbone."""

import open_clip
import pytest
import torch
from mmseg.registry import MODELS
from safetensors.torch import save_file
from tiny_model import CLASSIFIER

from ovavss_mm.models import CLIPResNet

TINY = dict(CLASSIFIER['clip_model'], vision_cfg=dict(image_size=64, layers=[1, 2, 1, 1], width=8, head_width=32))


def images(count: int = 2, height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_four_maps_whose_pooled_last_is_what_clip_gives():
    torch.manual_seed(0)
    clip = open_clip.CLIP(**TINY).eval()
    backbone = CLIPResNet(TINY)
    backbone.load_state_dict(backbone.convert_state_dict(clip.state_dict()))
    maps = backbone(images())
    assert [tuple(x.shape[1:]) for x in maps] == [(32, 16, 24), (64, 8, 12), (128, 4, 6), (256, 2, 3)]
    assert backbone.dense_channels == 256
    with torch.no_grad():
        (*_, f32), expected = backbone(images(2, 64, 64)), clip.encode_image(images(2, 64, 64))
        torch.testing.assert_close(clip.visual.attnpool(f32), expected)


def test_it_never_learns():
    backbone = CLIPResNet(TINY).train()
    assert not any(module.training for module in backbone.modules())
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    maps = backbone(images().requires_grad_())
    assert not any(x.requires_grad for x in maps) and not any(p.requires_grad for p in backbone.parameters())
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items()), 'no running statistics'


def test_weights_come_from_an_archive_of_the_whole_clip(tmp_path):
    torch.manual_seed(1)
    clip = open_clip.CLIP(**TINY).eval()
    state = {key: value for key, value in clip.state_dict().items() if not key.endswith('num_batches_tracked')}
    save_file(state, tmp_path / 'clip.safetensors')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'clip.safetensors'))
    backbone = MODELS.build(dict(type='CLIPResNet', clip_model=TINY, init_cfg=init_cfg))
    backbone.init_weights()
    assert torch.equal(backbone.visual.layer2[1].conv1.weight, clip.visual.layer2[1].conv1.weight)
    assert not backbone.state_dict(), 'checkpoints leave it out'
    del state['visual.conv1.weight']
    save_file(state, tmp_path / 'clip.safetensors')
    with pytest.raises(ValueError, match='visual.conv1.weight'):
        MODELS.build(dict(type='CLIPResNet', clip_model=TINY, init_cfg=init_cfg)).init_weights()


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match='takes a CLIP with a ResNet'):
        CLIPResNet(CLASSIFIER['clip_model'])
    with pytest.raises(ValueError, match="no model 'RN51'"):
        CLIPResNet('RN51')
    with pytest.raises(ValueError, match="no weights 'nobody' for 'RN50'"):
        with torch.device('meta'):
            backbone = CLIPResNet('RN50', init_cfg=dict(type='Pretrained', checkpoint='nobody'))
        backbone.init_weights()
