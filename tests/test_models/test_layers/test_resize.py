# SPDX-License-Identifier: Apache-2.0
import torch
from torch.nn import functional as F

from ovavss_mm.models.layers.resize import resize_masks


def test_masks_keep_or_lose_the_padding():
    masks = torch.randn(2, 3, 4, 6)
    padded = resize_masks(masks, (16, 24))
    for s in range(2):
        for t in range(3):
            expected = F.interpolate(masks[s, t][None, None], (16, 24), mode='bilinear')
            assert torch.allclose(padded[s, t], expected[0, 0])
    assert torch.equal(resize_masks(masks, (16, 24), (9, 20)), padded[..., :9, :20])


def test_no_mask_will_do():
    assert resize_masks(torch.zeros(0, 3, 4, 6), (16, 24), (9, 20)).shape == (0, 3, 9, 20)
