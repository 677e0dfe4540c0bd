# SPDX-License-Identifier: Apache-2.0
"""Optimizer wrappers that leave out updates which would make weights infinite or NaN."""

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmseg.registry import OPTIM_WRAPPERS
from torch import Tensor
from torch.nn.utils import clip_grad_norm_


class FiniteUpdates:
    """Mixed into an optimizer wrapper: where a loss is not finite, nothing is updated.

    The backward pass takes place all the same, so that several processes stay in step, and all of
    them leave an update out or none. If an update takes several batches, one bad batch costs it.
    Gradients are zeroed as after any update; the optimizer's state stays what it was.

    Attributes:
        skipped (bool): whether the last update was left out; False between updates.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.skipped = False
        self._losses: list[Tensor] = []

    @property
    def pending(self) -> int:
        """How many batches the next update has seen so far; 0 right after an update."""
        return len(self._losses)

    def update_params(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """As the host's; the loss is remembered until the update.

        Args:
            loss: scalar, not scaled.
            args: as the host's.
            kwargs: as the host's.
        """
        self.skipped = False
        self._losses.append(loss.detach().float())
        super().update_params(loss, *args, **kwargs)

    def _check(self, *norms: Tensor) -> bool:
        """Whether the losses since the last update and ``norms`` are finite, in all processes; sets ``skipped``."""
        values, self._losses = [*self._losses, *(norm.float() for norm in norms)], []
        if values:
            bad = torch.stack(values).isfinite().logical_not().any().float()
            if get_world_size() > 1:  # gradients are the same in all processes, losses are not
                all_reduce(bad, 'max')
            self.skipped = bool(bad)
        return not self.skipped


@OPTIM_WRAPPERS.register_module()
class FiniteOptimWrapper(FiniteUpdates, OptimWrapper):
    """mmengine's wrapper, without updates from a loss or from gradients that are not finite.

    Args:
        args: as the host's.
        kwargs: as the host's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._norm: Tensor | None = None
        if self.clip_grad_kwargs:
            self._host_clip, self.clip_func = self.clip_func, self._clip_and_note

    def _clip_and_note(self, params: list[Tensor], **kwargs: Any) -> Tensor | None:
        """The host's clipping, with the norm remembered."""
        self._norm = self._host_clip(params, **kwargs)
        return self._norm

    def step(self, **kwargs: Any) -> None:
        """Clip gradients as the host does, and update if all is finite.

        Args:
            kwargs: of the optimizer.
        """
        self._norm = None
        if self.clip_grad_kwargs:
            self._clip_grad()
        if self._norm is None:  # not clipped, or by value
            groups = self.optimizer.param_groups
            params = [p for group in groups for p in group['params'] if p.grad is not None]
            self._norm = clip_grad_norm_(params, float('inf')) if params else None
        if self._check(*[] if self._norm is None else [self._norm]):
            self.optimizer.step(**kwargs)


@OPTIM_WRAPPERS.register_module()
class FiniteAmpOptimWrapper(FiniteUpdates, AmpOptimWrapper):
    """mmengine's wrapper for mixed precision, without updates from a loss that is not finite.

    Gradients are left to its scaler, which looks for a factor at which they do not overflow: it leaves out such
    updates too, and they are not counted. A loss that is not finite says nothing of the factor, and leaves it alone.

    Args:
        args: as the host's.
        kwargs: as the host's.
    """

    def step(self, **kwargs: Any) -> None:
        """As the host's, if all losses are finite.

        Args:
            kwargs: of the optimizer.
        """
        if self._check():
            super().step(**kwargs)
