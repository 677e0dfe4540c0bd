# SPDX-License-Identifier: Apache-2.0
"""Time, operations and memory of named ranges of a step, measured from outside of the model."""

import os
import platform
import resource
import sys
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
from mmengine.runner import set_random_seed
from mmengine.utils import track_iter_progress
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
        calls = [call for call in calls if hasattr(part, call)]
        ranges += [Range(f'{name}.match' if call == 'match' else name, part, call) for call in calls]
    return ranges


@dataclass
class RangeTimer:
    """Splits steps into ranges: each moment counts for the innermost one, so that ranges add up to the step."""

    read: Callable[[], Any] = time.perf_counter  # of a clock, or anything else that grows
    between: Callable[[Any, Any], float] = lambda start, end: end - start  # how much it grew  # noqa: E731
    sync: Callable[[], object] = lambda: None  # waits until all readings are there  # noqa: E731
    steps: list[dict[str, float]] = field(default_factory=list)  # what each range, 'other' and 'total' took

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


def measure(benches: list, args: Any) -> tuple[list[list[dict]], float, list[float]]:
    """Take steps, of several benches in turn.

    Returns:
        tuple: seconds of the ranges a step a bench; the peak of memory; and for each bench the most that a step added
        to what was held before it, both in MiB.
    """
    # of loading, the processor's time: other programs disturb it less than real time
    timers = [RangeTimer(time.process_time) if args.mode == 'loader' else RangeTimer.on(args.device) for _ in benches]
    peak, added = 0.0, [0.0] * len(benches)
    with ExitStack() as stack:
        for bench, timer in zip(benches, timers, strict=True):
            stack.enter_context(timer.watching(bench.ranges))
        for i in track_iter_progress(range(args.warmup + args.repeats), file=sys.stderr):
            for at, (bench, timer) in enumerate(zip(benches, timers, strict=True)):
                data = bench.batch()
                set_random_seed(0)  # each step does the same work
                reset_peak_memory(args.device)
                held = peak_memory(args.device)
                with timer.step():
                    bench.step(data)
                if i >= args.warmup:
                    most = peak_memory(args.device)
                    peak, added[at] = max(peak, most), max(added[at], most - held)
    return [timer.steps[args.warmup :] for timer in timers], peak, added


def count_flops(step: Callable[[], object], ranges: list[Range]) -> dict[str, float]:
    """Operations of the matrix products and convolutions of each range in a step, two a multiply-add."""
    mha = torch.backends.mha
    with ExitStack() as stack, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        # attention is taken apart into products: the counter does not know all of its fused forms
        stack.callback(mha.set_fastpath_enabled, mha.get_fastpath_enabled())
        mha.set_fastpath_enabled(False)
        timer = RangeTimer(counter.get_total_flops)
        with timer.watching(ranges), timer.step():
            step()
    return timer.steps[0]


def describe_machine(device: str) -> str:
    """What the figures are measured on, in a line."""
    name = torch.cuda.get_device_name(device) if device.startswith('cuda') else platform.processor() or 'CPU'
    name += f' ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()}), {torch.get_num_threads()} threads'
    return f'{name}, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}'


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
    on_gpu = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(event.time_range.elapsed_us() for event in on_gpu if not event.is_user_annotation)
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
