# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that survive a kill at any moment, and from which a training goes on as if there had been none."""

import os.path as osp
from collections import deque
from typing import Any

from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    get_rank,
    get_world_size,
    is_main_process,
)
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import IterBasedTrainLoop, Runner
from mmseg.registry import HOOKS

from ..random_state import capture, restore
from ..whole_files import BACKEND, WholeFileBackend, remove_leftovers

# In a checkpoint: the states of all processes' random number generators, in the order of ranks.
KEY = 'random_states'
# In the work dir: the iteration of the last validation that came to its end.
VALIDATED = 'last_validation'


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's hook with the same keys, and three things that it lacks.

    A file appears under its name when it is whole, ``last_checkpoint`` names one that is whole, and the old ones of
    ``max_keep_ckpts`` and ``save_best`` go after that; mmengine removes first, and writes in place. What a killed
    process has left half written is removed at the next start.

    A checkpoint holds the states of the random number generators, of each process. A training that is resumed goes on
    with them, where it has the same number of processes.

    A validation leaves the random numbers of the training as they were. One that a kill cut short, or that did not
    begin after its checkpoint, is made when the training is resumed.

    Checkpoints that go elsewhere than to a local folder (``out_dir``, ``backend_args``, ``file_client_args``) are
    written in mmengine's way.

    Args:
        args: as mmengine's.
        kwargs: as mmengine's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._states: list[dict] | None = None  # to be saved
        self._loaded: tuple[int, list[dict]] | None = None  # iteration and states of a checkpoint
        self._validating: dict | None = None  # own state before a validation

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the states that came with a checkpoint.

        Args:
            runner: of the training.
            checkpoint: that was read.
        """
        self._loaded = None
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(KEY), list):
            self._loaded = checkpoint.get('meta', {}).get('iter', 0), checkpoint[KEY]

    def before_train(self, runner: Runner) -> None:
        """As mmengine's; what half-written files there are is removed.

        Args:
            runner: of the training.
        """
        if self._is_local(runner):
            self.backend_args = dict(backend=BACKEND)
        if self.max_keep_ckpts > 0:
            _check_info(runner)
        super().before_train(runner)
        if not isinstance(self.file_backend, WholeFileBackend):
            return
        self._keep_best_in(runner)
        if is_main_process():
            for folder in {self.out_dir, runner.work_dir}:
                for path in remove_leftovers(folder):
                    runner.logger.info(f'removed {path}, left by a process that was ended')
        if self._lacks_validation(runner):
            runner.logger.info(f'the validation of iteration {runner.iter} is made now')
            runner.val_loop.run()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Go on with the random numbers of the training that is resumed.

        Here, as making the loader's iterator draws a number.

        Args:
            runner: of the training.
            batch_idx: not used.
            data_batch: not used.
        """
        if self._loaded is None:
            return
        (iteration, states), self._loaded = self._loaded, None
        if runner.iter != iteration or iteration == 0:
            return  # the training starts from these weights, or goes on elsewhere
        if len(states) == get_world_size():
            restore(states[get_rank()])
        else:
            runner.logger.warning(
                f'the checkpoint is of {len(states)} processes, these are {get_world_size()}: the training goes on '
                'with other random numbers'
            )

    def before_val(self, runner: Runner) -> None:
        """Remember the state of the training.

        Args:
            runner: of the training.
        """
        self._validating = capture()

    def after_val(self, runner: Runner) -> None:
        """Go back to the state of the training.

        Args:
            runner: of the training.
        """
        if self._validating is not None:
            restore(self._validating)
        self._validating = None
        if runner.iter > 0 and isinstance(getattr(self, 'file_backend', None), WholeFileBackend):
            if is_main_process():
                path = osp.join(runner.work_dir, VALIDATED)
                self.file_backend.put_text(str(runner.iter), path)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the states into a checkpoint that a training can go on from.

        Args:
            runner: of the training.
            checkpoint: to be saved.
        """
        if self._states is not None and 'optimizer' in checkpoint:
            checkpoint[KEY] = self._states

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save, say so in ``last_checkpoint``, then remove old ones; called in all processes."""
        state = self._validating or capture()
        self._states = all_gather_object(state) if get_world_size() > 1 else [state]
        try:
            if isinstance(self.file_backend, WholeFileBackend):
                with self.file_backend.removing_late():
                    self._save_whole(runner, step, meta)
            else:
                super()._save_checkpoint_with_step(runner, step, meta)
        finally:
            self._states = None

    def _save_whole(self, runner: Runner, step: int, meta: dict) -> None:
        """As the host's, but for the order and for how ``last_checkpoint`` is written."""
        name = self.filename_tmpl.format(step)
        old = self._note_step(runner, step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        self.file_backend.put_text(self.last_ckpt, osp.join(runner.work_dir, 'last_checkpoint'))
        for number in old:
            path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(number))
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)

    def _note_step(self, runner: Runner, step: int) -> list[int]:
        """Note that ``step`` will be kept; gives those that are to be removed.

        The checkpoint itself lists these too: if the process ends before they are removed, the next start does it.
        """
        if self.max_keep_ckpts <= 0:
            return []
        steps = [number for number in self.keep_ckpt_ids if number != step] + [step]
        runner.message_hub.update_info('keep_ckpt_ids', steps)
        self.keep_ckpt_ids = deque(steps[-self.max_keep_ckpts :], self.max_keep_ckpts)
        return steps[: -self.max_keep_ckpts]

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """As the host's; the former best one goes when the new one is whole."""
        if isinstance(self.file_backend, WholeFileBackend):
            with self.file_backend.removing_late():
                super()._save_best_checkpoint(runner, metrics)
        else:
            super()._save_best_checkpoint(runner, metrics)

    def _lacks_validation(self, runner: Runner) -> bool:
        """Whether the checkpoint that is resumed was to be validated, and was not; alike in all processes."""
        loop, done = runner.train_loop, runner.iter
        if done == 0 or runner.val_loop is None or not isinstance(loop, IterBasedTrainLoop):
            return False
        if done < loop.val_begin or (done % loop.val_interval and done != loop.max_iters):
            return False
        path = osp.join(runner.work_dir, VALIDATED)
        last = [None]
        if is_main_process() and self.file_backend.isfile(path):
            last = [self.file_backend.get_text(path).strip()]
        broadcast_object_list(last)
        return last != [str(done)]

    def _is_local(self, runner: Runner) -> bool:
        """Whether checkpoints go to a folder of this machine, in the plain way."""
        if self.backend_args or self.file_client_args:
            return False
        return type(get_file_backend(self.out_dir or runner.work_dir)) is LocalBackend

    def _keep_best_in(self, runner: Runner) -> None:
        """Best checkpoints that the resumed one names are those of its folder: they will be removed."""

        def here(path: str | None) -> str | None:
            if not path:
                return None
            return self.file_backend.join_path(self.out_dir, osp.basename(str(path)))

        if self.save_best is None:
            return
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = here(self.best_ckpt_path)
        else:
            for key, path in self.best_ckpt_path_dict.items():
                self.best_ckpt_path_dict[key] = here(path)


def _check_info(runner: Runner) -> None:
    """Have the numbers of checkpoints to remove, which come with a checkpoint, be numbers."""
    info = runner.message_hub.runtime_info
    if 'keep_ckpt_ids' in info:
        info['keep_ckpt_ids'] = [i for i in info['keep_ckpt_ids'] if type(i) is int]
