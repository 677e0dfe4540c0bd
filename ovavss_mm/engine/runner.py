# SPDX-License-Identifier: Apache-2.0
"""The runner, and what it takes to run several processes on a machine without a GPU."""

import gc
import os
import os.path as osp
from datetime import timedelta
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import init_dist, is_distributed, master_only
from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop, Runner
from mmseg.registry import MODELS, RUNNERS, TASK_UTILS
from torch import nn
from torch.utils.data import DataLoader

from ..compat import concerns_user
from ..models.layers.frozen import read_frozen
from ..utils import safe_loading  # noqa: F401  (mmengine reads checkpoints through it)
from ..utils.config_check import ConfigError, explain
from .schedule import follow_schedule, schedule_of


@RUNNERS.register_module()
class AVRunner(Runner):
    """mmengine's runner, which executes nothing that a checkpoint holds, and also runs several processes on CPUs.

    With ``cfg.amp`` forward passes are in bfloat16, on a GPU and on a CPU, in training and testing.
    """

    _stored: tuple[list[dict], list[dict]] | None = None  # groups and schedulers of the checkpoint that was loaded last

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger, without the messages of the hosts that do not concern the user."""
        logger = super().build_logger(*args, **kwargs)
        logger.addFilter(concerns_user)
        return logger

    def setup_env(self, env_cfg: dict) -> None:
        """Set up as mmengine does; processes without a GPU communicate by gloo."""
        if self.distributed and not is_distributed() and not torch.cuda.is_available():
            init_gloo(self.launcher)
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap as mmengine does; without a GPU the usual wrapper is told to use no device of one.

        A model without trainable parameters is not wrapped, as torch's wrapper refuses it.
        """
        if not any(p.requires_grad for p in model.parameters()):
            return model.to(get_device())
        if self.distributed and model_wrapper_cfg is None and not torch.cuda.is_available():
            unused = self.cfg.get('find_unused_parameters', False)
            model_wrapper_cfg = dict(device_ids=None, broadcast_buffers=False, find_unused_parameters=unused)
        return super().wrap_model(model_wrapper_cfg, model)

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model, with mixed precision if ``cfg.amp`` asks for it.

        Raises:
            ConfigError: a part of it does not take an argument or a value, or is not registered.
        """
        try:
            model = super().build_model(model)
        except (TypeError, KeyError, ValueError) as error:
            if told := explain(error, self.cfg, 'model', (MODELS, TASK_UTILS)):
                raise told from error
            raise
        if self.cfg.get('amp'):
            model.forward = torch.autocast(get_device(), dtype=torch.bfloat16)(model.forward)
        return model

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> DataLoader:
        """Build a dataloader as mmengine does, for a GPU with ``pin_memory`` unless the config says otherwise.

        Raises:
            ConfigError: its data set has no data, or data that are not as they should be; the message says which.
        """
        if isinstance(dataloader, dict) and torch.cuda.is_available():
            dataloader = dict(pin_memory=True) | dataloader
        try:
            return Runner.build_dataloader(dataloader, *args, **kwargs)
        except (FileNotFoundError, ValueError) as error:
            raise ConfigError(str(error)) from error

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict:
        """Load a checkpoint as plain data, without ``meta['config']``: mmengine executes that text when it resumes.

        Raises:
            CheckpointError: it holds more than data, or is damaged.
        """
        checkpoint = super().load_checkpoint(filename, *args, **kwargs)
        if isinstance(checkpoint.get('meta'), dict):
            checkpoint['meta'].pop('config', None)
        optimizer = checkpoint.get('optimizer')
        if isinstance(optimizer, dict) and 'param_groups' in optimizer:
            base = [optimizer['base_param_settings']] if 'base_param_settings' in optimizer else []
            self._stored = optimizer['param_groups'] + base, checkpoint.get('param_schedulers', [])
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume as mmengine does, and follow the schedule of the config also where it is not the checkpoint's."""
        new, self._stored = schedule_of(self), None
        super().resume(filename, *args, **kwargs)
        if new and self._stored:
            follow_schedule(self, new, self._stored)
        else:
            self.logger.warning("several optimizers, or rates that follow validations: the checkpoint's schedule stays")

    def train(self) -> nn.Module:
        """Train as mmengine does.

        Raises:
            ConfigError: the model has nothing to train.
        """
        model = getattr(self.model, 'module', self.model)
        if not any(p.requires_grad for p in model.parameters()):
            name = type(model).__name__
            raise ConfigError(f'{name} is made of frozen models, nothing is trained: test it, with --checkpoint none')
        return super().train()

    def test(self) -> dict[str, float]:
        """Test as mmengine does; without a checkpoint, a model of which none stores any weight.

        Raises:
            ConfigError: the model needs a checkpoint, and there is none.
        """
        model = getattr(self.model, 'module', self.model)
        is_trained = isinstance(self._train_loop, BaseLoop)
        has_weights = self._load_from or self._resume or self._has_loaded or is_trained
        if not has_weights and model.state_dict():
            raise ConfigError(f'{type(model).__name__} has trained weights: name a checkpoint to test')
        read_frozen(model)
        return super().test()

    @master_only
    def dump_config(self) -> None:
        """Write the resolved config to ``<work_dir>/<name>_resolved.py``.

        mmengine's ``<name>.py`` would be found by ``mim train ovavss_mm <name>.py`` beside the config itself, and mim
        accepts one hit only.
        """
        stem = osp.splitext(osp.basename(self.cfg.filename or self.timestamp))[0]
        self.cfg.dump(osp.join(self.work_dir, f'{stem}_resolved.py'))


def join_group(launcher: str, gpu: bool, timeout: int) -> None:
    """Join the process group of a launcher, by gloo.

    Args:
        launcher (str): 'pytorch', 'slurm' or 'mpi'.
        gpu (bool): whether each process gets a GPU of its own.
        timeout (int): seconds that processes wait for each other.

    Raises:
        ValueError: without GPUs, the processes were not started by torchrun.
    """
    if gpu:
        init_dist(launcher, 'gloo', timeout=timeout)
    else:
        init_gloo(launcher, timeout=timedelta(seconds=timeout))


def init_gloo(launcher: str, **kwargs: Any) -> None:
    """Join torchrun's process group without a GPU; mmengine's ``init_dist`` asks for one.

    Raises:
        ValueError: the processes were not started by torchrun.
    """
    if launcher != 'pytorch' or 'RANK' not in os.environ:
        raise ValueError(
            f'launcher {launcher!r}: several processes without a GPU are started with torchrun and '
            '--launcher pytorch, or with mim train ... --launcher pytorch --gpus N'
        )
    torch.distributed.init_process_group('gloo', **kwargs)


def leave_group() -> None:
    """Leave the process group, if there is one, when all processes have come to the end.

    Nothing may refer to the runner any more. A wrapped model that outlives the group ends gloo's threads while it
    holds the GIL, for which they may be waiting: the process hangs. One that ends with these threads running may be
    aborted, and torchrun reports a training that went well as failed.
    """
    if is_distributed():
        gc.collect()  # runner, loops and hooks refer to each other
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
