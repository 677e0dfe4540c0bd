# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that survive a kill at any moment, and from which a training resumes to the bit."""

import os.path as osp
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from mmengine.dist import all_gather_object, broadcast_object_list, get_rank, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import IterBasedTrainLoop, Runner
from mmseg.registry import HOOKS

from ...utils.files import remove_leftovers
from ..checkpoints import BACKEND, AtomicFileBackend, get_random_state, set_random_state

KEY = 'random_states'  # in a checkpoint: the random states of all processes, in the order of ranks
VALIDATED = 'last_validation'  # in the work dir: the iteration of the last validation that came to its end


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's hook with the same keys, and three things that it lacks.

    A file appears under its name when it is complete, and the old ones of ``max_keep_ckpts`` and ``save_best`` are
    removed after that. What a killed process has left half written is removed at the next start.

    A checkpoint holds the states of the random number generators of each process. A training that is resumed with the
    same number of processes continues with them.

    A validation leaves the random numbers of the training as they were. One that a kill cut short, or that did not
    begin after its checkpoint, runs when the training is resumed.

    Args:
        *args: see mmengine's hook.
        backend_args (dict, optional): see mmengine's hook. Defaults to local files that are written atomically.
        **kwargs: see mmengine's hook.
    """

    best_ckpt_path: str | None
    best_ckpt_path_dict: dict[str, str | None]

    def __init__(self, *args: Any, backend_args: dict | None = None, **kwargs: Any) -> None:
        super().__init__(*args, backend_args=backend_args or dict(backend=BACKEND), **kwargs)
        self._loaded: tuple[int, list[dict]] | None = None  # iteration and states of a checkpoint
        self._training_state: dict | None = None  # during a validation

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the states that came with a checkpoint."""
        if isinstance(checkpoint.get(KEY), list):
            self._loaded = checkpoint.get('meta', {}).get('iter', 0), checkpoint[KEY]

    def before_train(self, runner: Runner) -> None:
        """Set up as mmengine does, remove leftovers, and run a validation that is missing."""
        info = runner.message_hub.runtime_info
        if 'keep_ckpt_ids' in info:  # a checkpoint may name anything; these become file names
            info['keep_ckpt_ids'] = [step for step in info['keep_ckpt_ids'] if type(step) is int]
        super().before_train(runner)
        if not isinstance(self.file_backend, AtomicFileBackend):
            return
        self._confine_best()
        if is_main_process():
            for path in remove_leftovers(self.out_dir) + remove_leftovers(runner.work_dir):
                runner.logger.info(f'removed {path}, left by a process that was killed')
        if self._lacks_validation(runner):
            runner.logger.info(f'running the validation of iteration {runner.iter}')
            runner.val_loop.run()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Continue with the random numbers of the training that is resumed.

        Here, as making the loader's iterator draws a number.
        """
        if self._loaded is None:
            return
        (iteration, states), self._loaded = self._loaded, None
        if runner.iter != iteration or iteration == 0:
            return  # the training starts from these weights
        if len(states) == get_world_size():
            set_random_state(states[get_rank()])
        else:
            runner.logger.warning(
                f'the checkpoint is of {len(states)} processes, these are {get_world_size()}: the training continues '
                'with other random numbers'
            )

    def before_val(self, runner: Runner) -> None:
        """Keep the random numbers of the training."""
        self._training_state = get_random_state()

    def after_val(self, runner: Runner) -> None:
        """Restore the random numbers of the training, and note that the validation is done."""
        if self._training_state is not None:
            set_random_state(self._training_state)
        self._training_state = None
        backend = getattr(self, 'file_backend', None)
        if runner.iter > 0 and isinstance(backend, AtomicFileBackend) and is_main_process():
            backend.put_text(str(runner.iter), osp.join(runner.work_dir, VALIDATED))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the states into a checkpoint that a training can be resumed from, in the main process."""
        if 'optimizer' in checkpoint:
            checkpoint[KEY] = self._states

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save in all processes; old checkpoints are removed last."""
        self._states = all_gather_object(self._training_state or get_random_state())
        with self._removing_late():
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save; the former best checkpoint is removed last."""
        with self._removing_late():
            super()._save_best_checkpoint(runner, metrics)

    def _removing_late(self) -> AbstractContextManager:
        """Within, files that are removed go at the end."""
        return getattr(self.file_backend, 'removing_late', nullcontext)()

    def _lacks_validation(self, runner: Runner) -> bool:
        """True if the checkpoint that is resumed was to be validated, and was not; alike in all processes."""
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

    def _confine_best(self) -> None:
        """Look for the best checkpoints, which will be removed, in the own folder only."""

        def here(path: str | None) -> str | None:
            return path and osp.join(self.out_dir, osp.basename(str(path)))

        if self.save_best is not None and len(self.key_indicators) == 1:
            self.best_ckpt_path = here(self.best_ckpt_path)
        elif self.save_best is not None:
            self.best_ckpt_path_dict = {key: here(path) for key, path in self.best_ckpt_path_dict.items()}
