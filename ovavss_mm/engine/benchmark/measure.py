# SPDX-License-Identifier: Apache-2.0
"""Runs of a bench: repeated steps, operations, outputs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from statistics import median
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from .bench import Bench
from .flops import counting
from .inputs import fetch, seed_all
from .memory import MIB, held, peak_of, profiled_busy_seconds
from .report import TOTAL
from .timer import CudaClock, StageTimer, WallClock

Tick = Callable[[], object]


def no_tick() -> None:
    """Nothing to tell."""


def timer_for(device: str) -> StageTimer:
    """A timer of real time on a device."""
    return StageTimer(CudaClock() if device.startswith('cuda') else WallClock())


def timed_step(bench: Bench, timer: StageTimer) -> None:
    """Measure a step; its data are made before."""
    data = bench.batch()
    seed_all()
    with timer.step():
        bench.step(data)


def plain_step(bench: Bench) -> Any:
    """Take a step, and return what it gives."""
    data = bench.batch()
    seed_all()
    return bench.step(data)


def measure(bench: Bench, tick: Tick = no_tick) -> dict[str, Any]:
    """Measure repeated steps after warm-up.

    Args:
        bench: what to measure.
        tick: called after each step.

    Returns:
        ``steps``, a dict from stage to seconds for each repeat, and ``memory`` in MiB: ``peak`` of the
        repeats, what was taken ``before`` the warm-up, and of what ``kind`` they are.
    """
    settings = bench.settings
    timer, before = timer_for(settings.device), held(settings.device)
    with bench.instrumented(timer.wrap):
        for _ in range(settings.warmup):
            plain_step(bench)
            tick()
        with peak_of(settings.device) as memory:
            for _ in range(settings.repeats):
                timed_step(bench, timer)
                tick()
    sizes = dict(peak=memory.peak / MIB, before=before / MIB)
    return dict(steps=timer.steps, memory=dict(sizes, kind=memory.kind))


def count_flops(bench: Bench) -> dict[str, int]:
    """Operations of each stage in a step, see :func:`~.flops.counting`."""
    with counting() as clock:
        timer = StageTimer(clock)
        with bench.instrumented(timer.wrap):
            timed_step(bench, timer)
    return timer.steps[0]


def idle_share(bench: Bench, seconds: float) -> float:
    """Share of a step, 0..1, in which the GPU does nothing.

    Args:
        bench: what to measure, on a GPU.
        seconds: that a step takes without the profiler.
    """
    with bench.instrumented(lambda _, method: method):
        return max(0.0, 1 - profiled_busy_seconds(lambda: plain_step(bench)) / seconds)


def time_data(dataset: Any, batch: int, repeats: int) -> list[float]:
    """Seconds that a pipeline takes for the first clips, in this process; a first time is not counted."""
    fetch(dataset, batch)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        fetch(dataset, batch)
        seconds.append(time.perf_counter() - start)
    return seconds


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in tuples, lists, dicts and data elements, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, BaseDataElement):
        yield from tensors_in([item for _, item in sorted(value.items())])
    elif isinstance(value, dict):
        yield from tensors_in([value[key] for key in sorted(value)])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)


@contextmanager
def recording(bench: Bench, stage: str) -> Iterator[list[list[Tensor]]]:
    """Keep copies of what the outermost calls of a stage return; of 'backward', the gradients.

    Args:
        bench: its methods are wrapped meanwhile.
        stage: which stage.

    Yields:
        A list that grows by one a call: the tensors in what it returned, float64 on the CPU.
    """
    calls: list[list[Tensor]] = []
    depth = 0

    def wrap(name: str, method: Callable) -> Callable:
        if name != stage:
            return method

        @wraps(method)
        def kept(*args: Any, **kwargs: Any) -> Any:
            nonlocal depth
            depth += 1
            try:
                result = method(*args, **kwargs)
            finally:
                depth -= 1
            if depth == 0:
                calls.append(copies(gradients(bench) if stage == 'backward' else result))
            return result

        return kept

    with bench.instrumented(wrap):
        yield calls


def gradients(bench: Bench) -> list[Tensor]:
    """Gradients of all weights that have one."""
    return [p.grad for p in bench.model.parameters() if p.grad is not None]


def copies(value: Any) -> list[Tensor]:
    """The tensors in something, as float64 on the CPU."""
    return [tensor.detach().to('cpu', torch.float64, copy=True) for tensor in tensors_in(value)]


def outputs_of(bench: Bench, stage: str) -> list[list[Tensor]]:
    """What a stage gives in one step, a list a call; of 'total', what the step gives."""
    with recording(bench, stage) as calls:
        result = plain_step(bench)
    return [copies(result)] if stage == TOTAL else calls


def count_crops(bench: Bench) -> int:
    """How many crops CLIP gets in a step."""
    return sum(len(crops) for call in outputs_of(bench, 'clip') for crops in call)


def median_total(steps: list[dict[str, float]]) -> float:
    """Median of the seconds of steps."""
    return median(sum(step.values()) for step in steps)
