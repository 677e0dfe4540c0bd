# SPDX-License-Identifier: Apache-2.0
"""A resumed training has the learning rates of its config, also where the checkpoint was written under another."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmseg.registry import HOOKS, MODELS

from ovavss_mm.engine import launch
from ovavss_mm.engine.runner import AVRunner

WARM_UP = dict(type='LinearLR', start_factor=0.1, begin=0, end=2, by_epoch=False)
COSINE = dict(type='CosineAnnealingLR', begin=2, end=4, eta_min=1e-3, by_epoch=False)
STEPS = dict(type='MultiStepLR', begin=0, end=4, milestones=[3], gamma=0.5, by_epoch=False)
MOMENTUM = dict(type='LinearMomentum', start_factor=0.5, begin=0, end=6, by_epoch=False)
LEARN = dict(max_iters=8, schedulers=[WARM_UP, COSINE], lr=0.1, weight_decay=0.01)


@MODELS.register_module(force=True)
class ScheduleToy(BaseModel):
    """Two weights, of which one learns at half the rate."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head, self.backbone = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor, mode: str = 'tensor') -> dict[str, torch.Tensor]:
        """Fit 1 to x."""
        return dict(loss=(self.head(self.backbone(x.float()[:, None])) - 1).square().mean())


@HOOKS.register_module(force=True)
class RatesHook(Hook):
    """Notes the learning rates and momenta with which each iteration is done."""

    def before_train(self, runner: Any) -> None:
        """Begin."""
        self.rates: dict[int, list[tuple]] = {}

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Note them."""
        groups = runner.optim_wrapper.param_groups
        self.rates[runner.iter + 1] = [(group['lr'], group['betas'], group['weight_decay']) for group in groups]


pytestmark = pytest.mark.filterwarnings('ignore:.*instance named of')  # several runs in a process


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    """An empty folder is the current one; the default scope is restored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DefaultScope, '_instance_dict', DefaultScope._instance_dict.copy())


def config(
    max_iters: int, schedulers: list[dict] | None, lr: float, weight_decay: float, by_epoch: bool = False
) -> dict:
    """The whole config of a run of 4 iterations an epoch."""
    loop = dict(type='EpochBasedTrainLoop', max_epochs=max_iters // 4) if by_epoch else {}
    return dict(
        model=dict(type='ScheduleToy'),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            dataset=[dict(x=float(i)) for i in range(8)],
            sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=loop or dict(type='IterBasedTrainLoop', max_iters=max_iters),
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=lr, weight_decay=weight_decay),
            paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))),
        ),
        param_scheduler=schedulers,
        default_hooks=dict(
            checkpoint=dict(type='AtomicCheckpointHook', by_epoch=by_epoch, interval=1 if by_epoch else 4),
            runtime_info=dict(type='RuntimeInfoHook'),
        ),
        custom_hooks=[dict(type='RatesHook')],
        log_processor=dict(by_epoch=by_epoch),
        visualizer=dict(type='Visualizer', vis_backends=[]),
        default_scope='mmseg',
    )


def train(folder: str, resume: bool = False, **settings: Any) -> AVRunner:
    """Train as ``tools/train.py`` does."""
    Path(f'{folder}.py').write_text(Config(config(**settings)).pretty_text)
    cfg = launch.load_config(f'{folder}.py', 'resumed' if resume else folder)
    cfg.experiment_name = f'{Path.cwd().name}_{folder}'
    launch.choose_start(cfg, resume)
    runner = launch.build_runner(cfg)
    runner.train()
    return runner


def rates(runner: AVRunner) -> dict[int, list[tuple]]:
    """Those of a run."""
    return next(hook for hook in runner.hooks if isinstance(hook, RatesHook)).rates


def log_of(folder: str) -> str:
    """The last log in a work dir."""
    return sorted(Path(folder).rglob('*.log'))[-1].read_text()


@pytest.mark.parametrize(
    ('before', 'words'),
    [
        (dict(schedulers=[WARM_UP, COSINE | dict(end=8)], lr=0.05), 'optimizer.initial_lr 0.05, 0.025 -> 0.1, 0.05;'),
        (dict(schedulers=[WARM_UP, COSINE]), 'param_scheduler.1.end 4 -> 8'),
        (dict(weight_decay=0.3), r'optimizer.weight_decay 0.3 -> 0.01;'),
        (dict(schedulers=[STEPS]), 'param_scheduler.0.milestones'),
        (dict(schedulers=[WARM_UP]), 'param_scheduler.1.T_max None -> 6'),
        (dict(schedulers=[WARM_UP, COSINE | dict(end=8), MOMENTUM]), 'param_scheduler.2.param_name momentum -> None'),
        (dict(schedulers=None), 'param_scheduler.0.begin None -> 0'),
    ],
    ids=['rate', 'end', 'decay', 'kind', 'one more', 'one less', 'none before'],
)
def test_the_new_schedule_is_followed_from_where_the_old_one_ended(before, words):
    """The rates are those of a run under the new one, to the bit, and so are later checkpoints' states."""
    now = LEARN | dict(schedulers=[WARM_UP, COSINE | dict(end=8)])
    train('resumed', **now | before | dict(max_iters=4))
    resumed, fresh = train('again', resume=True, **now), train('fresh', **now)
    assert rates(resumed) == {i: rates(fresh)[i] for i in (5, 6, 7, 8)}
    assert len({str(found) for found in rates(fresh).values()}) > 5
    assert words in log_of('resumed')
    for one, other in zip(resumed.param_schedulers, fresh.param_schedulers, strict=True):
        assert one.state_dict() == other.state_dict()
    steps = [int(state['step']) for state in resumed.optim_wrapper.optimizer.state.values()]
    assert steps == [8] * 4, 'the moments go on'


def test_another_schedule_than_none_at_all_takes_a_new_rate():
    """Without schedulers the rate itself is the schedule."""
    train('resumed', **LEARN | dict(max_iters=4, schedulers=None))
    resumed = train('again', resume=True, **LEARN | dict(schedulers=None, lr=0.3))
    assert {group[0] for found in rates(resumed).values() for group in found} == {0.3, 0.15}
    assert 'optimizer.lr 0.1, 0.05 -> 0.3, 0.15' in log_of('resumed')


def test_the_same_schedule_goes_on_without_a_word():
    """Also if the run gets longer, which the loop's key says alone."""
    now = LEARN | dict(schedulers=[WARM_UP, COSINE | dict(end=8), STEPS])
    train('resumed', **now | dict(max_iters=4))
    resumed, fresh = train('again', resume=True, **now), train('fresh', **now)
    assert rates(resumed) == {i: rates(fresh)[i] for i in (5, 6, 7, 8)}
    assert 'another schedule' not in log_of('resumed') and 'schedule stays' not in log_of('resumed')


def test_a_schedule_by_epochs_is_followed_too():
    """Beside one by iterations."""
    by_epoch = dict(type='StepLR', by_epoch=True, step_size=1, gamma=0.5, begin=0, end=9)
    old, new = ([by_epoch, COSINE | dict(begin=0, end=end)] for end in (4, 12))
    train('resumed', **LEARN | dict(by_epoch=True, max_iters=8, schedulers=old))
    settings = LEARN | dict(by_epoch=True, max_iters=12, schedulers=new)
    resumed, fresh = train('again', resume=True, **settings), train('fresh', **settings)
    assert rates(resumed) == {i: rates(fresh)[i] for i in (9, 10, 11, 12)}
    assert 'param_scheduler.1.end 4 -> 12' in log_of('resumed')


def test_rates_that_follow_validations_stay_and_the_log_says_so(monkeypatch):
    """What a run under the config would have had depends on results that it never had."""
    train('resumed', **LEARN | dict(max_iters=4))
    monkeypatch.setattr('ovavss_mm.engine.runner.schedule_of', lambda runner: None)
    resumed = train('again', resume=True, **LEARN | dict(lr=0.3))
    assert rates(resumed)[5][0][0] < 0.1
    assert "the checkpoint's schedule stays" in log_of('resumed')
