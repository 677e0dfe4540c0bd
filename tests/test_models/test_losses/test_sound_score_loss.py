# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn import functional as F

from ovavss_mm.models import SoundScoreLoss


@pytest.mark.parametrize('labels', [[0, 1, 1, 0, 1, 1], [1] * 6, [0] * 6])
@pytest.mark.parametrize('weight', [0.1, 1.0])
def test_equals_weighted_cross_entropy(labels, weight):
    logits, labels = torch.randn(6, 2, requires_grad=True), torch.tensor(labels)
    loss = SoundScoreLoss(no_object_weight=weight, loss_weight=2.0)(logits, labels)
    expected = 2 * F.cross_entropy(logits, labels, torch.tensor([1.0, weight]))
    assert loss.shape == () and torch.allclose(loss, expected, atol=1e-5)
    ours, plain = (torch.autograd.grad(x, logits)[0] for x in (loss, expected))
    assert torch.allclose(ours, plain, atol=1e-5)


def test_no_target_and_no_weight_for_the_rest_is_zero():
    loss = SoundScoreLoss(no_object_weight=0.0)(torch.randn(4, 2), torch.ones(4, dtype=torch.long))
    assert loss == 0


def test_defaults_are_those_of_the_paper():
    logits, labels = torch.zeros(3, 2), torch.tensor([0, 1, 1])
    loss = SoundScoreLoss()
    assert loss(logits, labels).item() == pytest.approx(2 * 0.6931, abs=1e-3)
    assert loss.class_weight == [1.0, 0.1]


def test_names_of_a_closed_set_weigh_as_much_as_sounding():
    logits, labels = torch.randn(5, 4), torch.tensor([0, 3, 2, 3, 1])
    loss = SoundScoreLoss(no_object_weight=0.1, loss_weight=2.0, num_classes=3)(logits, labels)
    expected = 2 * F.cross_entropy(logits, labels, torch.tensor([1.0, 1.0, 1.0, 0.1]))
    assert torch.allclose(loss, expected, atol=1e-5)


@pytest.mark.parametrize('bad', [dict(no_object_weight=-0.1), dict(loss_weight=-1), dict(num_classes=-1)])
def test_weights_are_checked(bad):
    with pytest.raises(ValueError, match='must not be negative, .*got .*-'):
        SoundScoreLoss(**bad)
