# SPDX-License-Identifier: Apache-2.0
"""The schedule of a training that is resumed: the config's, also where the checkpoint was written under another."""

import warnings
from copy import deepcopy
from typing import Any

from mmengine.hooks import ParamSchedulerHook
from mmengine.runner import Runner
from torch.optim import Optimizer

from ..utils.text import one_line, shorten

# What of a scheduler's state is no setting: how far it is, and what the optimizer's groups tell as well.
_PROGRESS = {'last_step', '_global_step', '_last_value', 'base_values', 'verbose'}


def schedule_of(runner: Runner) -> tuple[list[dict], list[dict]] | None:
    """Copies of the optimizer's groups, without parameters, and of the schedulers' states.

    None for several optimizers, and for schedulers that follow results of validations.
    """
    optimizer, schedulers = getattr(runner.optim_wrapper, 'optimizer', None), runner.param_schedulers or []
    if not isinstance(optimizer, Optimizer) or any(getattr(one, 'need_val_args', False) for one in schedulers):
        return None
    groups = [{k: v for k, v in group.items() if k != 'params'} for group in runner.optim_wrapper.param_groups]
    return deepcopy((groups, [scheduler.state_dict() for scheduler in schedulers]))


def follow_schedule(runner: Runner, new: tuple[list[dict], list[dict]], stored: tuple[list[dict], list[dict]]) -> None:
    """Have a training that was resumed follow its config, if that has other settings than the checkpoint.

    Optimizer and schedulers get the state that a training under the config has after as many iterations and epochs; the
    optimizer keeps its moments.

    Args:
        runner (Runner): has resumed.
        new (tuple): :func:`schedule_of` the runner before that.
        stored (tuple): the checkpoint's groups and states of schedulers.
    """
    ours, theirs = _settings(*new), _settings(*stored)
    changed = [key for key in ours | theirs if repr(ours.get(key)) != repr(theirs.get(key))]
    if not changed:
        return
    for group, fresh in zip(runner.optim_wrapper.param_groups, new[0], strict=True):
        group.update(fresh)
    for scheduler, fresh in zip(runner.param_schedulers or [], new[1], strict=True):
        optimizer = scheduler.optimizer
        vars(scheduler).clear()  # a state may be that of another kind
        vars(scheduler).update(fresh, optimizer=optimizer)
    hook = ParamSchedulerHook()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that there were no steps of the optimizer between
        for done in range(1, runner.iter + 1):
            hook.after_train_iter(runner, done - 1)
            if runner.epoch and done % (runner.iter // runner.epoch) == 0:
                hook.after_train_epoch(runner)
    words = ', '.join(f'{key} {_show(theirs.get(key))} -> {_show(ours.get(key))}' for key in changed)
    rates = [group['lr'] for group in runner.optim_wrapper.optimizer.param_groups]
    runner.logger.warning(
        f'the config has another schedule than the checkpoint, and is followed as from the start: {words}; '
        f'learning rate at iteration {runner.iter}: {_show(rates)}'
    )


def _show(value: Any) -> str:
    """Text of a setting; of one of each group only what differs."""
    return shorten(dict.fromkeys(map(str, value))) if isinstance(value, list) else one_line(value, 60)


def _settings(groups: list[dict], schedulers: list[dict]) -> dict[str, Any]:
    """What a config sets of an optimizer and its schedulers, by keys like the config's."""
    found: dict[str, Any] = {}
    moving = {'params', *(state.get('param_name') for state in schedulers)}
    moving |= {'betas'} if 'momentum' in moving else set()
    for key in dict.fromkeys(key for group in groups for key in group if key not in moving):
        found[f'optim_wrapper.optimizer.{key}'] = [group.get(key) for group in groups]
    for place, state in enumerate(schedulers):
        found |= {f'param_scheduler.{place}.{key}': value for key, value in state.items() if key not in _PROGRESS}
    return found
