# SPDX-License-Identifier: Apache-2.0
"""How many parameters a model has, stage by stage."""

from typing import NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..models.layers.frozen import FrozenModule

BYTES = 4  # of a float32
MIB = 2**20


class Count(NamedTuple):
    """Numbers of parameters.

    Attributes:
        trainable (int): those that are trained.
        frozen (int): the others.
    """

    trainable: int
    frozen: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.trainable + self.frozen


def mebibytes(parameters: int) -> float:
    """Size of a number of float32 parameters in MiB."""
    return parameters * BYTES / MIB


def count_parameters(model: nn.Module) -> dict[str, Count]:
    """Count the parameters of each stage.

    Those of frozen batch norms are constants and do not count, unless they are of a module that is frozen as a whole,
    such as CLIP.

    Args:
        model (nn.Module): any module; its children are the stages.

    Returns:
        dict[str, Count]: Stage to count, and ``'all'``.
    """
    constants = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, _BatchNorm)
        for parameter in module.parameters()
        if not parameter.requires_grad
    }
    for module in model.modules():
        if isinstance(module, FrozenModule):
            constants -= {id(parameter) for parameter in module.parameters()}
    counts = {}
    for name, stage in model.named_children():
        numbers = [0, 0]
        for parameter in stage.parameters():
            if id(parameter) not in constants:
                numbers[not parameter.requires_grad] += parameter.numel()
        if any(numbers):
            counts[name] = Count(*numbers)
    counts['all'] = Count(*(sum(column) for column in zip(*counts.values(), strict=True)))
    return counts
