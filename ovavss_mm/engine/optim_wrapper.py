# SPDX-License-Identifier: Apache-2.0
"""An optimizer wrapper that skips updates which would make weights infinite or NaN."""

import math
from typing import Any

from mmengine.optim import OptimWrapper
from mmseg.registry import OPTIM_WRAPPERS
from torch import Tensor
from torch.nn.utils import clip_grad_norm_


@OPTIM_WRAPPERS.register_module()
class FiniteOptimWrapper(OptimWrapper):
    """mmengine's wrapper, which skips an update if the norm of the gradients is not finite.

    Gradients are the same in all processes, so all of them skip an update or none. The state of the optimizer stays
    as it was.

    Attributes:
        skipped (bool): whether the last batch led to an update that was skipped.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.skipped = False

    def update_params(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Update as mmengine does, see :meth:`step`.

        Args:
            loss (Tensor): scalar.
            *args: see mmengine's wrapper.
            **kwargs: see mmengine's wrapper.
        """
        self.skipped = False
        super().update_params(loss, *args, **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Clip gradients, and update if their norm is finite.

        Args:
            **kwargs: of the optimizer.
        """
        if self.clip_grad_kwargs:
            self._clip_grad()
        self.skipped = not math.isfinite(self._grad_norm())
        if not self.skipped:
            self.optimizer.step(**kwargs)

    def _grad_norm(self) -> float:
        """Norm of the gradients: the one that clipping has logged, if there is one."""
        groups = self.optimizer.param_groups
        params = [p for group in groups for p in group['params'] if p.grad is not None]
        if params and self.clip_grad_kwargs and self.clip_func is clip_grad_norm_:
            return self.message_hub.get_scalar(f'train/{self.grad_name}').current()
        return float(clip_grad_norm_(params, math.inf)) if params else 0.0
