# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn import functional as F

from ovavss_mm.models import DilatedContextNeck


def test_is_the_sum_of_dilated_convolutions():
    torch.manual_seed(0)
    neck = DilatedContextNeck([4, 6], 8, dilations=(3, 6))
    feats, audio = [torch.randn(2, 4, 9, 7), torch.randn(2, 6, 5, 4)], torch.randn(2, 3)
    maps, passed = neck(feats, audio, 1)
    assert passed is audio
    for x, convs, out in zip(feats, neck.convs, maps, strict=True):
        pairs = zip(convs, (3, 6), strict=True)
        wanted = [F.conv2d(x, c.conv.weight, c.conv.bias, padding=d, dilation=d) for c, d in pairs]
        assert torch.allclose(out, sum(wanted), atol=1e-6)


def test_a_skipped_level_has_weights_and_passes():
    neck = DilatedContextNeck([4, 6], 8, skip=(0,))
    feats = [torch.randn(1, 4, 4, 4), torch.randn(1, 6, 2, 2)]
    maps, _ = neck(feats, torch.randn(1, 3), 1)
    assert maps[0] is feats[0] and maps[1].shape == (1, 8, 2, 2)
    assert len(list(neck.convs[0].parameters())) == len(list(neck.convs[1].parameters())) == 8


def test_weights_start_small():
    torch.manual_seed(0)
    neck = DilatedContextNeck([64], 64)
    neck.init_weights()
    assert neck.convs[0][0].conv.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_wrong_values_are_named():
    with pytest.raises(ValueError, match=r'dilations must be at least 2, got \(1, 3\)'):
        DilatedContextNeck([4], dilations=(1, 3))
    with pytest.raises(ValueError, match=r'levels 0 to 0, got \(1,\)'):
        DilatedContextNeck([4], skip=(1,))
