# SPDX-License-Identifier: Apache-2.0
"""Operations of the stages, and how many a second the machine can do."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


class FlopClock:
    """A clock that counts operations instead of seconds, for :class:`~.timer.StageTimer`.

    Args:
        counter: torch's, which is counting.
    """

    def __init__(self, counter: FlopCounterMode) -> None:
        self.counter = counter

    def mark(self) -> int:
        """Operations until now."""
        return self.counter.get_total_flops()

    def sync(self) -> None:
        """Nothing to wait for."""

    def between(self, start: int, end: int) -> int:
        """Operations between two readings."""
        return end - start


@contextmanager
def counting() -> Iterator[FlopClock]:
    """Count the operations of matrix products and convolutions, forward and backward; two a multiply-add.

    Not counted: sampling (of points, of deformable attention, of crops), interpolation, norms, softmax and all
    else that is element-wise, and the assignment of matching. Attention is counted: meanwhile it is taken apart
    into products, as torch has fused versions that its counter does not know. What was compiled may be missing.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            yield FlopClock(counter)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def matmul_ceiling(
    device: str, dtype: torch.dtype, size: int | None = None, seconds: float = 1.0, most: int = 100
) -> float:
    """The most operations a second of the product of two square matrices, the best of several.

    Args:
        device: 'cpu' or 'cuda'.
        dtype: of the matrices.
        size: rows and columns; None: 1536 on a CPU, 8192 on a GPU.
        seconds: how long products are repeated, about; three at least.
        most: how many products at most.
    """
    on_gpu = device.startswith('cuda')
    size = size or (8192 if on_gpu else 1536)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, begin = float('inf'), time.perf_counter()
    for i in range(max(most, 3)):
        if i > 2 and time.perf_counter() - begin > seconds:
            break
        best = min(best, _seconds_of_product(a, b, on_gpu))
    return 2 * size**3 / best


def _seconds_of_product(a: torch.Tensor, b: torch.Tensor, on_gpu: bool) -> float:
    """Time of one product."""
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    torch.mm(a, b)
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - start
