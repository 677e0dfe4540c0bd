# SPDX-License-Identifier: Apache-2.0
"""Several processes on a machine without GPU: gloo instead of NCCL, no devices to choose."""

import os
from typing import Any

import torch
from mmengine.model import MMDistributedDataParallel
from torch import nn


def init_gloo(launcher: str) -> None:
    """Join the process group of torchrun without a GPU; mmengine's own way asks for one.

    Args:
        launcher: 'pytorch', whose variables are in the environment.

    Raises:
        ValueError: another launcher.
        RuntimeError: the variables are missing, as the script was not started by torchrun.
    """
    if launcher != 'pytorch':
        raise ValueError(f'without a GPU only --launcher pytorch is supported, got {launcher!r}')
    missing = [key for key in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT') if key not in os.environ]
    if missing:
        raise RuntimeError(
            f'--launcher pytorch needs {", ".join(missing)} in the environment: start with torchrun, '
            'or with mim train ... --launcher pytorch --gpus N'
        )
    torch.distributed.init_process_group('gloo')


class CPUDistributedDataParallel(MMDistributedDataParallel):
    """mmengine's wrapper for a model on the CPU.

    Args:
        module: the model.
        device_ids: passed by the runner, meaningless on a CPU.
        kwargs: as the host's.
    """

    def __init__(self, module: nn.Module, device_ids: Any = None, **kwargs: Any) -> None:
        super().__init__(module=module, broadcast_buffers=False, **kwargs)
