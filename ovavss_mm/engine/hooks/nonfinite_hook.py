# SPDX-License-Identifier: Apache-2.0
"""Names and counts the updates that were left out, and stops a training that makes no more."""

import os.path as osp
from typing import Any

import torch
from mmengine.dist import all_gather_object, barrier
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ..optim_wrapper import FiniteUpdates
from ..whole_files import BACKEND

# Clips that a message names; it says how many more there are.
_SHOWN = 20


class NonFiniteLossError(RuntimeError):
    """A training whose losses or gradients stay infinite or NaN."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Reports each update that a :class:`FiniteUpdates` wrapper has left out.

    A warning names the clips and the losses that are not finite, of all processes. ``skipped``, the
    number of all such updates of the training, goes into the log; it outlives a restart. Statistics
    of batch norms are set back to what they were before the batch.

    After ``max_in_row`` such updates in a row the training stops with an error. The state, which is that before the
    first of them, is saved before, as ``nonfinite_iter_<N>.pth`` in the work directory.

    Args:
        max_in_row (int): how many updates in a row are left out before the training stops.
    """

    def __init__(self, max_in_row: int = 10) -> None:
        if not isinstance(max_in_row, int) or max_in_row < 1:
            raise ValueError(f'max_in_row must be a positive integer, got {max_in_row!r}')
        self.max_in_row = max_in_row
        self._in_row = 0
        self._clips: list[str] = []  # of the updates in this row
        self._batches: list[dict] = []  # since the last update
        self._statistics: list[tuple[Tensor, Tensor]] | None = None

    def before_train(self, runner: Runner) -> None:
        """Start anew.

        Args:
            runner: of the training.

        Raises:
            TypeError: if the optimizer wrapper leaves nothing out.
        """
        if not isinstance(runner.optim_wrapper, FiniteUpdates):
            raise TypeError(
                "NonFiniteLossHook needs optim_wrapper.type='FiniteOptimWrapper' or 'FiniteAmpOptimWrapper' in the "
                f'config, got {type(runner.optim_wrapper).__name__}'
            )
        self._in_row, self._clips, self._batches, self._statistics = 0, [], [], None

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Remember the statistics of batch norms that learn, before an update's first batch.

        Args:
            runner: of the training.
            batch_idx: not used.
            data_batch: not used.
        """
        if self._statistics is None:
            norms = [m for m in runner.model.modules() if isinstance(m, _BatchNorm) and m.training]
            buffers = [buffer for norm in norms for buffer in norm.buffers()]
            self._statistics = [(buffer, buffer.clone()) for buffer in buffers]
        elif not self._batches:
            for buffer, kept in self._statistics:
                kept.copy_(buffer)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        """Report the update, if it was left out.

        Args:
            runner: of the training.
            batch_idx: not used.
            data_batch: with ``data_samples``, whose metainfo has ``clip_id``.
            outputs: losses by name.

        Raises:
            NonFiniteLossError: if it was the last of ``max_in_row``.
        """
        clips = [str(s.get('clip_id', '?')) for s in (data_batch or {}).get('data_samples', [])]
        self._batches.append(dict(clips=clips, losses=outputs or {}))
        if runner.optim_wrapper.pending:
            return
        batches, self._batches = self._batches, []
        if not runner.optim_wrapper.skipped:
            self._in_row, self._clips = 0, []
            return
        for buffer, kept in self._statistics or ():
            buffer.copy_(kept)
        clips, losses = _blame(batches)
        self._in_row += 1
        self._clips += [clip for clip in clips if clip not in self._clips]
        total = 1 + _info(runner, 'skipped_updates', 0)
        runner.message_hub.update_info('skipped_updates', total)
        runner.message_hub.update_scalar('train/skipped', total)
        runner.logger.warning(
            f'iteration {runner.iter + 1}: not finite: {", ".join(losses) or "gradients"}; this update is '
            f'left out ({self._in_row} in a row, {total} in all). Clips: {_some(clips)}'
        )
        if self._in_row >= self.max_in_row:
            self._stop(runner, losses)

    def _stop(self, runner: Runner, losses: list[str]) -> None:
        """Save the state and raise."""
        path = osp.join(runner.work_dir, f'nonfinite_iter_{runner.iter + 1}.pth')
        whole = dict(backend=BACKEND)  # a file of this name is whole
        runner.save_checkpoint(*osp.split(path), by_epoch=False, backend_args=whole)
        barrier()  # a launcher ends all processes as soon as one raises
        raise NonFiniteLossError(
            f'{self._in_row} updates in a row were left out, up to iteration {runner.iter + 1}, as '
            f'{", ".join(losses) or "gradients"} were not finite. Clips: {_some(self._clips)}.\n'
            f'The state before the first of them is saved: {path}\n'
            'What helps: if the clips are always the same, look at their files '
            '(tools/dataset_converters/avsbench_ov.py checks them); else a lower learning rate '
            '(optim_wrapper.optimizer.lr), a longer warm-up or a smaller optim_wrapper.clip_grad.max_norm, or training '
            f'without --amp. To start from that state: --cfg-options load_from={path}'
        )


def _blame(batches: list[dict]) -> tuple[list[str], list[str]]:
    """Clips and names of losses of all processes' batches with bad losses; all clips and no name if none has any."""
    own = [
        dict(clips=batch['clips'], losses=[k for k, v in batch['losses'].items() if not _finite(v)])
        for batch in batches
    ]
    everywhere = [batch for part in all_gather_object(own) for batch in part]
    bad = [batch for batch in everywhere if batch['losses']] or everywhere
    clips = list(dict.fromkeys(clip for batch in bad for clip in batch['clips']))
    losses = list(dict.fromkeys(name for batch in bad for name in batch['losses']))
    return clips, losses


def _finite(value: Any) -> bool:
    """Whether a number or all of a tensor is neither infinite nor NaN."""
    return bool(torch.as_tensor(value).isfinite().all())


def _info(runner: Runner, key: str, default: int) -> int:
    """What the message hub knows, which checkpoints carry along."""
    hub = runner.message_hub
    return hub.get_info(key) if key in hub.runtime_info else default


def _some(clips: list[str]) -> str:
    """Name the first of a list."""
    more = f' and {len(clips) - _SHOWN} more' if clips[_SHOWN:] else ''
    return ', '.join(clips[:_SHOWN]) + more if clips else 'without names'
