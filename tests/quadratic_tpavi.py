# SPDX-License-Identifier: Apache-2.0
"""TPAVI by the affinity of all pairs of positions, as its paper writes it: what the short form is compared with.

For values in test_tpavi_block.py; for time and memory of the block at f4, as a program
(``PYTHONPATH=tools/analysis_tools``); of the model, quadratic_tpavi_config.py is what benchmark.py compares with.
"""

import multiprocessing
import time
from statistics import median

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ovavss_mm.models import TPAVIHead
from ovavss_mm.models.layers.tpavi_block import TPAVIBlock


class QuadraticBlock(TPAVIBlock):
    """A TPAVI block that makes an N x N affinity, N = T' h w."""

    def _attend(self, x: Tensor, aligned: Tensor) -> Tensor:
        """As the block's, (M, C, h, w)."""
        frames, channels, height, width = x.shape
        tokens = x.unflatten(0, (-1, self.window)).permute(0, 1, 3, 4, 2).flatten(1, 3)  # (W, N, C)
        sound = aligned[:, None].expand(-1, height * width, -1).reshape(frames // self.window, -1, channels)
        affinity = self.theta(tokens) @ self.phi(sound).mT / tokens.shape[1]  # (W, N, N)
        return self.out(affinity @ self.g(tokens)).view(frames, height, width, channels).permute(0, 3, 1, 2)


@MODELS.register_module(force=True)
class QuadraticTPAVIHead(TPAVIHead):
    """The head with such blocks."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for block in self.blocks:
            block.__class__ = QuadraticBlock


FORMS = (TPAVIBlock, QuadraticBlock)


def make_step(form: type, train: bool):
    """Function that takes a step of a block at f4, of a clip of 10 frames of 224 x 224 pixels."""
    torch.manual_seed(0)
    block = form(256).train(train)
    x, audio = torch.randn(10, 256, 56, 56, requires_grad=train), torch.rand(10, 128)

    def step():
        with torch.set_grad_enabled(train):
            fused = block(x, audio)[0]
        if train:
            fused.square().mean().backward()

    return step


def rise_of_memory(form: type, train: bool) -> float:
    """MiB by which a step lifts the memory of its process."""
    from bench_timer import peak_memory, reset_peak_memory

    step = make_step(form, train)
    reset_peak_memory('cpu')
    before = peak_memory('cpu')
    step()
    return peak_memory('cpu') - before


def main(rounds: int = 9) -> None:
    """Print milliseconds, the forms in turn, and MiB, each form in a process of its own."""
    context = multiprocessing.get_context('spawn')
    for train in (False, True):
        steps, times = [make_step(form, train) for form in FORMS], ([], [])
        for _ in range(rounds + 1):
            for step, taken in zip(steps, times, strict=True):
                start = time.perf_counter()
                step()
                taken.append(1000 * (time.perf_counter() - start))
        taken = [median(ms[1:]) for ms in times]  # the first is not counted
        with context.Pool(1, maxtasksperchild=1) as pool:
            peaks = [pool.apply(rise_of_memory, (form, train)) for form in FORMS]
        for what, unit, (linear, quadratic) in (('time', 'ms', taken), ('memory', 'MiB', peaks)):
            name = f'{"forward and backward" if train else "forward"}, {what}'
            print(f'{name}: linear {linear:.0f} {unit}, quadratic {quadratic:.0f} {unit}, {quadratic / linear:.1f} x')


if __name__ == '__main__':
    main()
