# SPDX-License-Identifier: Apache-2.0
"""Keys of learning rates hold for what begins with them."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from ovavss_mm.engine import optim_wrapper
from ovavss_mm.utils.config_check import ConfigError


class Model(nn.Module):
    """A backbone, and an encoder that has parts of the same names."""

    def __init__(self):
        super().__init__()
        self.backbone = self.part()
        self.audio_encoder = nn.ModuleDict(dict(backbone=self.part()))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)

    @staticmethod
    def part() -> nn.Module:
        part = nn.ModuleDict(dict(conv=nn.Conv2d(2, 2, 1), norm1=nn.LayerNorm(2)))
        part.bias_table = nn.Parameter(torch.zeros(3))
        return part


def groups_of(custom_keys: dict, **rules) -> dict:
    """Learning rate and weight decay of each trained parameter, in tenths of the base."""
    model = Model()
    config = dict(
        type='OptimWrapper',
        constructor='mmseg.PrefixOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=1.0),
        paramwise_cfg=dict(custom_keys=custom_keys, **rules),
    )
    groups = build_optim_wrapper(model, config).optimizer.param_groups
    found = {id(p): (g['lr'], g['weight_decay']) for g in groups for p in g['params']}
    return {n: found[id(p)] for n, p in model.named_parameters() if id(p) in found}


def test_a_key_does_not_match_inside_a_name():
    found = groups_of(dict(backbone=dict(lr_mult=0.1)))
    assert found['backbone.conv.weight'] == (0.1, 1)
    assert found['audio_encoder.backbone.conv.weight'] == (1, 1)
    assert not any(name.startswith('frozen') for name in found)
    assert set(groups_of(dict(back=dict(lr_mult=0.1))).values()) == {(1, 1)}, 'no half names'


def test_a_key_leaves_the_other_rules_in_force():
    found = groups_of(dict(backbone=dict(lr_mult=0.1)), norm_decay_mult=0.0)
    assert found['backbone.norm1.weight'] == (0.1, 0)
    assert found['audio_encoder.backbone.norm1.bias'] == (1, 0)
    found = groups_of(dict(backbone=dict(decay_mult=0.5)), norm_decay_mult=0.0)
    assert found['backbone.norm1.weight'] == (1, 0.5), 'unless it says otherwise'


def test_the_longest_key_counts_and_stars_stand_for_letters():
    keys = {'backbone': dict(lr_mult=0.1), '*backbone.*table': dict(lr_mult=0.2, decay_mult=0.0)}
    found = groups_of(keys)
    assert found['backbone.bias_table'] == found['audio_encoder.backbone.bias_table'] == (0.2, 0)
    assert found['backbone.conv.bias'] == pytest.approx((0.1, 1))


@pytest.mark.parametrize(
    ('keys', 'rules', 'words'),
    [
        (dict(backbone=dict(lr_mlt=0.1)), {}, 'custom_keys.backbone.lr_mlt: .*; nearest known: lr_mult'),
        ({}, dict(norm_decay_mlt=0.0), 'paramwise_cfg.norm_decay_mlt: .*; nearest known: norm_decay_mult'),
    ],
)
def test_keys_that_nothing_reads_are_refused(keys, rules, words):
    with pytest.raises(ConfigError, match=words):
        groups_of(keys, **rules)


def test_keys_that_are_no_beginning_of_a_name_are_warned_of(monkeypatch):
    """They may be those of a part that a variant does not have."""
    said = []
    monkeypatch.setattr(optim_wrapper, 'print_log', lambda text, *_: said.append(text))
    groups_of({'backbone': dict(lr_mult=0.1), 'bakbone.conv': dict(lr_mult=0.1), '*norm1': dict(decay_mult=0.0)})
    assert said == ['optim_wrapper.paramwise_cfg.custom_keys: no parameter of the model is named bakbone.conv']
