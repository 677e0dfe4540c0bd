# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn import functional as F

from ovavss_mm.models import MaskFocalLoss


@pytest.fixture
def points():
    """Logits and targets in [0, 1]: points on the border of a mask are between."""
    target = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.3, 0.8], dtype=torch.double)
    return torch.randn(6, dtype=torch.double, requires_grad=True), target


def test_without_focus_it_is_cross_entropy(points):
    pred, target = points
    loss = MaskFocalLoss(alpha=-1, gamma=0, loss_weight=3.0)(pred, target, avg_factor=4)
    expected = 3 * F.binary_cross_entropy_with_logits(pred, target, reduction='sum') / 4
    assert torch.allclose(loss, expected)
    ours, plain = (torch.autograd.grad(x, pred)[0] for x in (loss, expected))
    assert torch.allclose(ours, plain)


def test_equals_the_definition(points):
    """Equation 7 point by point."""
    pred, target = points
    expected = 0.0
    for logit, t in zip(pred.tolist(), target.tolist(), strict=True):
        p = 1 / (1 + torch.tensor(-logit).exp().item())
        entropy = -t * torch.tensor(p).log() - (1 - t) * torch.tensor(1 - p).log()
        hit = p * t + (1 - p) * (1 - t)
        expected += (0.25 * t + 0.75 * (1 - t)) * (1 - hit) ** 2 * entropy.item()
    assert MaskFocalLoss()(pred, target, avg_factor=6).item() == pytest.approx(5 * expected / 6)


def test_shape_plays_no_part(points):
    pred, target = points
    loss = MaskFocalLoss()
    flat, square = loss(pred, target, 6), loss(pred.view(2, 3), target.view(2, 3), 6)
    assert torch.equal(flat, square) and flat.shape == ()


@pytest.mark.parametrize('bad', [dict(alpha=-0.5), dict(alpha=1.5), dict(gamma=-1.0), dict(loss_weight=-2.0)])
def test_arguments_are_checked(bad):
    with pytest.raises(ValueError, match=rf'got .*{next(iter(bad.values()))}'):
        MaskFocalLoss(**bad)
