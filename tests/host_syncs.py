# SPDX-License-Identifier: Apache-2.0
"""Counts, on a CPU, where a program would wait for a GPU: results that go to Python, and sizes that data decide.

Not seen are indices in lists, which a GPU gets copied, and what compiled operations do inside.
"""

import sys
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
SIZED_BY_DATA = {aten.nonzero, aten.masked_select, aten._unique2, aten.unique_dim, aten.unique_consecutive}
MASKED = {aten.index, aten.index_put, aten.index_put_}  # with masks they look for the True ones first
TO_PYTHON = {Tensor.cpu, Tensor.tolist}  # of a CPU they dispatch nothing
TO_DEVICE = {torch.tensor, torch.as_tensor, Tensor.new_tensor}
# updates count steps on the CPU, and move norms to the device where they are
NO_WAITS = ('torch/optim/', 'torch/nn/utils/clip_grad.py')


class HostSyncs:
    """Context in which waits are counted.

    Attributes:
        lines (Counter): by text: the innermost line of the package, or else of the caller, and the operation.
    """

    def __init__(self) -> None:
        self.lines: Counter = Counter()
        self._modes = [_Functions(self._note), _Operations(self._note)]

    def __enter__(self) -> 'HostSyncs':
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        for mode in self._modes[::-1]:
            mode.__exit__(*args)

    def _note(self, operation: str) -> None:
        """Count one."""
        frames = [frame for frame in traceback.extract_stack(sys._getframe(2)) if frame.filename != __file__]
        if any(path in frame.filename for frame in frames for path in NO_WAITS):
            return
        line = next((frame for frame in reversed(frames) if '/ovavss_mm/' in frame.filename), frames[-1])
        self.lines[f'{line.filename.split("/ovavss_mm/")[-1]}:{line.lineno} {operation}: {line.line}'] += 1


class _Functions(TorchFunctionMode):
    """What Python calls."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self.note = note

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        copied = func in TO_DEVICE and ('device' in kwargs or func is Tensor.new_tensor)
        if func in TO_PYTHON or copied or (func is Tensor.to and _is_waited_for(args[1:], kwargs)):
            self.note(func.__name__)
        return func(*args, **kwargs)


def _is_waited_for(args: tuple, kwargs: dict) -> bool:
    """Whether arguments of ``Tensor.to`` name a device, and the copy is waited for."""
    named = any(isinstance(x, (str, torch.device)) for x in (*args[:1], kwargs.get('device')))
    return named and not kwargs.get('non_blocking')


class _Operations(TorchDispatchMode):
    """What torch runs."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self.note = note

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        packet = func.overloadpacket
        masked = packet in MASKED and any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])
        if packet in SIZED_BY_DATA or masked or packet is aten._local_scalar_dense:
            self.note(packet._qualified_op_name.split('::')[-1])
        return func(*args, **(kwargs or {}))
