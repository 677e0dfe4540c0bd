# SPDX-License-Identifier: Apache-2.0
"""Time, operations and memory of named ranges of a step, measured from outside of the model."""

import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

OTHER, TOTAL = 'other', 'total'


class Range(NamedTuple):
    """A method whose time has a name; several methods may share one name."""

    name: str
    owner: Any
    method: str


def model_ranges(model: nn.Module) -> list[Range]:
    """Ranges of a model: its children, those of its heads and classifier, and what it does between them.

    Plain layers of torch are none; a criterion's ``match`` is one of its own. What is not called takes no time.
    """
    parts = {'model': model, **dict(model.named_children())}
    for name, child in model.named_children():
        if name.endswith(('head', 'classifier')):
            parts.update({f'{name}.{key}': part for key, part in child.named_children()})
    ranges = []
    for name, part in parts.items():
        if type(part).__module__.startswith('torch.nn.'):
            continue
        # of a compiled module the call, not what is inside of the graph
        compiled = getattr(part, '_compiled_call_impl', None) is not None
        calls = ['_compiled_call_impl' if compiled else 'forward', 'encode_image', 'match']  # encode_image: of CLIP
        calls += [] if part is model else ['loss', 'predict']
        names = dict(match=f'{name}.match')
        ranges += [Range(names.get(call, name), part, call) for call in calls if hasattr(part, call)]
    return ranges


@dataclass
class RangeTimer:
    """Splits steps into ranges: each moment counts for the innermost one, so that ranges add up to the step.

    Attributes:
        read (Callable): reads a clock, or anything else that grows. Defaults to the time in seconds.
        between (Callable): how much it grew between two readings.
        sync (Callable): waits until all readings are there.
        steps (list[dict[str, float]]): what each range, ``'other'`` and ``'total'`` took, a dict a step.
    """

    read: Callable[[], Any] = time.perf_counter
    between: Callable[[Any, Any], float] = lambda start, end: end - start  # noqa: E731
    sync: Callable[[], object] = lambda: None  # noqa: E731
    steps: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def on(cls, device: str) -> 'RangeTimer':
        """A timer of seconds on a device; of a GPU, between events in its queue of work."""
        if not device.startswith('cuda'):
            return cls()
        return cls(_cuda_event, lambda a, b: a.elapsed_time(b) / 1e3, torch.cuda.synchronize)

    @contextmanager
    def watching(self, ranges: list[Range]) -> Iterator[None]:
        """Wrap methods of objects (not of their classes) while the block runs."""
        with ExitStack() as stack:
            for name, owner, method in ranges:
                stack.enter_context(patch.object(owner, method, self._timed(name, getattr(owner, method))))
            yield

    @contextmanager
    def step(self) -> Iterator[None]:
        """Measure a step and append it to ``steps``; one that raises is not kept."""
        self.sync()
        self._names, self._marks = [OTHER], []
        self._mark()
        yield
        self._mark()
        self.sync()
        took = Counter()
        for (start, name), (end, _) in pairwise(self._marks):
            took[name] += self.between(start, end)
        total, other = took.total(), took.pop(OTHER)
        self.steps.append({**took, OTHER: other, TOTAL: total})

    def _mark(self) -> None:
        """Read the clock: from now on the innermost range counts."""
        self._marks.append((self.read(), self._names[-1]))

    def _timed(self, name: str, method: Callable) -> Callable:
        """The method as a range."""

        @wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._names.append(name)
            self._mark()
            try:
                return method(*args, **kwargs)
            finally:
                self._names.pop()
                self._mark()

        return timed


def _cuda_event() -> torch.cuda.Event:
    """An event in the current stream."""
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def count_flops(step: Callable[[], object], ranges: list[Range]) -> dict[str, float]:
    """Operations of the matrix products and convolutions of each range in a step, two a multiply-add."""
    # attention is taken apart into products: the counter does not know all of its fused forms
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            timer = RangeTimer(counter.get_total_flops)
            with timer.watching(ranges), timer.step():
                step()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return timer.steps[0]


def matmul_ceiling(device: str, amp: bool) -> float:
    """Operations a second of a product of two large square matrices, the best of ten; bfloat16 with ``amp``."""
    size = 8192 if device.startswith('cuda') else 1536
    a = torch.randn(size, size, device=device).to(torch.bfloat16 if amp else torch.float32)
    timer = RangeTimer.on(device)
    for _ in range(10):
        with timer.step():
            a @ a
    return 2 * size**3 / min(step[TOTAL] for step in timer.steps)


def idle_share(step: Callable[[], object], seconds: float) -> float:
    """Share, 0 to 1, of a step in which the GPU does nothing; ``seconds`` are those of a step without the profiler."""
    with torch.profiler.profile() as profiler:
        step()
        torch.cuda.synchronize()
    busy = sum(
        event.time_range.elapsed_us()
        for event in profiler.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
    )
    return max(0.0, 1 - busy / 1e6 / seconds)


def reset_peak_memory(device: str) -> None:
    """Look for the peak from now on, where the system lets us."""
    if device.startswith('cuda'):
        return torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5')


def peak_memory(device: str) -> float:
    """Peak in MiB: of tensors on a GPU, of the whole process on a CPU."""
    if device.startswith('cuda'):
        return torch.cuda.max_memory_allocated() / 2**20
    with suppress(OSError, StopIteration):
        lines = Path('/proc/self/status').read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith('VmHWM'))) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
