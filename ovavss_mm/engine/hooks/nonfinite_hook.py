# SPDX-License-Identifier: Apache-2.0
"""Reports updates that were skipped, and stops a training that makes no more."""

import math
import os.path as osp

import torch
from mmengine.dist import all_gather_object, barrier
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ...utils.text import shorten
from ..checkpoints import BACKEND


class NonFiniteLossError(RuntimeError):
    """A training whose gradients stay infinite or NaN."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Reports each update that :class:`FiniteOptimWrapper` skips; other wrappers are left alone.

    A warning names the clips and the losses that are not finite, of all processes. ``skipped``, the number of all such
    updates of the training, goes into the log and into checkpoints. Statistics of batch norms are set back.

    After ``max_in_row`` skipped updates in a row the training stops with a :class:`NonFiniteLossError`. The state
    before the first of them is saved as ``nonfinite_iter_<N>.pth`` in the work dir.

    It comes first, and leaves the losses to further hooks as numbers, so that a GPU is waited for once.

    Args:
        max_in_row (int): how many updates in a row are skipped before the training stops. Defaults to 10.
    """

    priority = 'HIGHEST'

    def __init__(self, max_in_row: int = 10) -> None:
        if not isinstance(max_in_row, int) or max_in_row < 1:
            raise ValueError(f'max_in_row must be a positive integer, got {max_in_row!r}')
        self.max_in_row = max_in_row

    def before_train(self, runner: Runner) -> None:
        """Start counting."""
        self._in_row = 0
        self._row_clips: list[str] = []
        self._batches: list[tuple[list[str], list[str]]] = []  # clips and bad losses, since the last update
        self._buffers: list[tuple[Tensor, Tensor]] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Keep the statistics of batch norms that learn, before the first batch of an update."""
        if not self._batches and hasattr(runner.optim_wrapper, 'skipped'):
            norms = [m for m in runner.model.modules() if isinstance(m, _BatchNorm) and m.training]
            self._buffers = [(b, b.clone()) for norm in norms for b in norm.buffers()]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Report the update, if it was skipped."""
        samples = (data_batch or {}).get('data_samples', [])
        if outputs:
            losses = torch.stack([torch.as_tensor(value).double() for value in outputs.values()])
            outputs.update(zip(outputs, losses.tolist(), strict=True))
        bad = [key for key, value in (outputs or {}).items() if not math.isfinite(value)]
        self._batches.append(([str(sample.get('clip_id', '?')) for sample in samples], bad))
        if not runner.optim_wrapper.should_update():
            return
        batches, self._batches = self._batches, []
        if not getattr(runner.optim_wrapper, 'skipped', False):
            self._in_row, self._row_clips = 0, []
            return
        for buffer, kept in self._buffers:
            buffer.copy_(kept)
        self._report(runner, sum(all_gather_object(batches), []))

    def _report(self, runner: Runner, batches: list[tuple[list[str], list[str]]]) -> None:
        """Warn about batches (clips, bad losses) of all processes, and stop if it was the last straw."""
        blamed = [batch for batch in batches if batch[1]] or batches
        clips = list(dict.fromkeys(clip for names, _ in blamed for clip in names))
        losses = ', '.join(dict.fromkeys(loss for _, bad in blamed for loss in bad)) or 'gradients'
        self._in_row += 1
        self._row_clips += [clip for clip in clips if clip not in self._row_clips]
        hub = runner.message_hub
        total = 1 + hub.runtime_info.get('skipped_updates', 0)
        hub.update_info('skipped_updates', total)
        hub.update_scalar('train/skipped', total)
        runner.logger.warning(
            f'iteration {runner.iter + 1}: not finite: {losses}; this update is skipped '
            f'({self._in_row} in a row, {total} in all). Clips: {shorten(clips)}'
        )
        if self._in_row >= self.max_in_row:
            self._stop(runner, losses)

    def _stop(self, runner: Runner, losses: str) -> None:
        """Save the state and raise."""
        path = osp.join(runner.work_dir, f'nonfinite_iter_{runner.iter + 1}.pth')
        runner.save_checkpoint(*osp.split(path), by_epoch=False, backend_args=dict(backend=BACKEND))
        barrier()  # a launcher ends all processes as soon as one raises
        raise NonFiniteLossError(
            f'{self._in_row} updates in a row were skipped, up to iteration {runner.iter + 1}, as {losses} were not '
            f'finite. Clips: {shorten(self._row_clips)}.\n'
            f'The state before the first of them is saved: {path}\n'
            'What helps: if the clips are always the same, look at their files '
            '(tools/dataset_converters/avsbench_ov.py checks them); else a lower learning rate '
            '(optim_wrapper.optimizer.lr), a longer warm-up or a smaller optim_wrapper.clip_grad.max_norm, or training '
            f'without --amp. To start from that state: --cfg-options load_from={path}'
        )
