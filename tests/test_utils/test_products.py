# SPDX-License-Identifier: Apache-2.0
"""Products by oneDNN: those of torch, in value and gradient. In a process of their own, where torch's are replaced."""

import subprocess
import sys

from ovavss_mm.utils import products

CODE = """
import itertools
import torch
from ovavss_mm.utils import products


def results(big, dtype=torch.float32):
    rows = (170, 130, 120) if big else (3, 2, 0)
    draw = lambda *size: torch.randn(size, dtype=dtype, requires_grad=True, generator=generator)
    generator = torch.Generator().manual_seed(0)
    m, k, n = rows
    for turned_a, turned_b in itertools.product((False, True), repeat=2):  # rows or columns one after the other
        a, b = draw(k, m).mT if turned_a else draw(m, k), draw(n, k).mT if turned_b else draw(k, n)
        bias = draw(n)
        for out in (a @ b, torch.addmm(bias, a, b), torch.addmm(bias, a, b, alpha=2), torch.addmm(draw(1), a, b)):
            yield out.detach()
            yield from torch.autograd.grad(out.sin().sum(), (a, b))
    with torch.inference_mode():
        yield torch.nn.functional.linear(draw(2, m, k), draw(n, k), draw(n))


kinds = [(True,), (False,), (True, torch.float64), (True, torch.bfloat16)]
before = [list(results(*kind)) for kind in kinds]
products.is_amd_with_avx512 = torch.backends.mkldnn.is_available
if not products.choose_product_library():
    print('not here')
    raise SystemExit
assert products.choose_product_library()  # once is enough
calls, product = [], products._product
products._product = lambda *x: calls.append(0) or product(*x)
for kind, old in zip(kinds, before):
    calls.clear()
    new = list(results(*kind))
    assert bool(calls) == (kind == (True,)), kind
    for x, y in zip(old, new, strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype and x.stride() == y.stride()
        assert torch.allclose(x, y, rtol=1e-5, atol=1e-4) if calls else torch.equal(x, y), kind
print('equal')
"""


def test_products_are_those_of_torch():
    """Large float32 products agree, with gradients, whatever the strides; small ones and other dtypes are torch's."""
    run = subprocess.run([sys.executable, '-c', CODE], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-1] in ('equal', 'here')
    assert 'Overriding' not in run.stderr


def test_other_processors_keep_the_products_of_torch(monkeypatch):
    """No library is replaced without a gain."""
    monkeypatch.setattr(products, 'is_amd_with_avx512', lambda: False)
    assert not products.choose_product_library()
    assert not products._libraries
