# SPDX-License-Identifier: Apache-2.0
"""Matrix products of a CPU by the faster of torch's two libraries."""

import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch.library import Library

SMALLEST = 2**21  # multiply-adds of a product; a smaller one is not worth the way through Python
_libraries: list[Library] = []  # what a library registers lasts as long as it


def choose_product_library() -> bool:
    """Have oneDNN multiply large float32 matrices in this process, on AMD's processors with AVX-512.

    torch takes MKL, which leaves AVX-512 of these alone; oneDNN, with which torch convolves, uses it, see
    docs/benchmarks.md. Sums are in another order, so results differ in their last bits. Products of other dtypes and
    devices and small ones stay as they are.

    Returns:
        bool: whether oneDNN multiplies from now on.
    """
    if not _libraries and is_amd_with_avx512() and hasattr(torch.ops.mkldnn, '_linear_pointwise'):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # torch warns that its own are replaced
            _libraries.append(Library('aten', 'IMPL'))
            for function in (mm, addmm):
                _libraries[0].impl(function.__name__, function, 'CPU')
    return bool(_libraries)


def is_amd_with_avx512() -> bool:
    """Whether the processor is one of AMD's with AVX-512, and torch has both libraries; False where Linux is not."""
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    told = Path('/proc/cpuinfo')
    wide = both and torch.backends.cpu.get_cpu_capability() == 'AVX512'
    return wide and told.is_file() and 'AuthenticAMD' in told.read_text()


def mm(a: Tensor, b: Tensor) -> Tensor:
    """``torch.mm`` of (M, K) and (K, N)."""
    if _fits(a, b):
        return _product(a, b)
    return torch.mm(a, b, out=a.new_empty(a.shape[0], b.shape[1]))  # with out it is torch's own


def addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``torch.addmm`` of (M, K) and (K, N)."""
    if beta == alpha == 1 and bias.ndim == 1 and len(bias) == b.shape[1] and _fits(a, b, bias):
        return _product(a, b, bias)
    return torch.addmm(bias, a, b, beta=beta, alpha=alpha, out=a.new_empty(a.shape[0], b.shape[1]))


def _fits(a: Tensor, b: Tensor, *others: Tensor) -> bool:
    """Whether these are large enough, float32, and the second is plain: other strides are slow in oneDNN."""
    if a.shape[0] * a.shape[1] * b.shape[1] < SMALLEST or not (b.is_contiguous() or b.mT.is_contiguous()):
        return False
    return all(x.dtype == torch.float32 for x in (a, b, *others))


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """``a @ b + bias``; oneDNN needs rows of its first matrix one after the other, so of two the smaller is copied."""
    if bias is None and b.numel() < a.numel() and not a.is_contiguous() and not b.mT.is_contiguous():
        return _product(b.mT.contiguous(), a.mT).mT.contiguous()
    return torch.ops.mkldnn._linear_pointwise(a, b.mT, bias, 'none', [], '')
