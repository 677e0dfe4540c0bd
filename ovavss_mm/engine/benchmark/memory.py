# SPDX-License-Identifier: Apache-2.0
"""Peaks of memory, and how long a GPU had nothing to do."""

import json
import os
import os.path as osp
import resource
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import torch

MIB = 2**20
STATM = '/proc/self/statm'
BUSY = ('kernel', 'gpu_memcpy', 'gpu_memset')


def resident() -> int:
    """Bytes of memory that the process holds now; where the system does not tell, the most it ever held."""
    if osp.exists(STATM):
        with open(STATM, encoding='ascii') as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else 1024 * peak


class ResidentPeak:
    """Context manager: the most memory that the process holds meanwhile, looked at by a thread.

    The system's own peak cannot be set back and would tell of what was loaded before. Peaks shorter than the
    interval may be missed. Memory that was freed but not given back to the system counts.

    Args:
        interval: between two looks, in seconds.

    Attributes:
        peak: bytes at most.

    Raises:
        ValueError: ``interval`` is not positive.
    """

    kind = 'resident memory of the process, sampled'

    def __init__(self, interval: float = 0.005) -> None:
        if interval <= 0:
            raise ValueError(f'interval must be positive, got {interval}')
        self.interval = interval
        self.peak = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> 'ResidentPeak':
        self._stop.clear()
        self.peak = resident()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _look(self) -> None:
        """Take a reading."""
        self.peak = max(self.peak, resident())

    def _watch(self) -> None:
        """Look again and again."""
        while not self._stop.wait(self.interval):
            self._look()


class CudaPeak:
    """Context manager: the most memory that tensors take on the GPU meanwhile, ``peak``, in bytes."""

    kind = 'tensors on the GPU'

    def __init__(self) -> None:
        self.peak = 0

    def __enter__(self) -> 'CudaPeak':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        self.peak = torch.cuda.memory_allocated()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.peak = torch.cuda.max_memory_allocated()


def held(device: str) -> int:
    """Bytes that are taken now: by tensors on a GPU, or by the process."""
    return torch.cuda.memory_allocated() if device.startswith('cuda') else resident()


def peak_of(device: str) -> ResidentPeak | CudaPeak:
    """What measures the peak on a device."""
    return CudaPeak() if device.startswith('cuda') else ResidentPeak()


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans, each (start, end)."""
    total, reached = 0.0, float('-inf')
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def busy_seconds(events: Iterable[dict[str, Any]]) -> float:
    """Seconds during which a GPU ran a kernel, copied or filled memory.

    Args:
        events: of a Chrome trace, times in microseconds.
    """
    spans = [(e['ts'], e['ts'] + e['dur']) for e in events if e.get('cat') in BUSY and 'dur' in e]
    return covered(spans) / 1e6


def profiled_busy_seconds(step: Callable[[], object]) -> float:
    """Seconds during which the GPU is busy in a step, which runs once under torch's profiler.

    The profiler makes the CPU slower but hardly the kernels: compare with the time of a step without it.
    """
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        step()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'trace.json')
        profiler.export_chrome_trace(path)
        with open(path, encoding='utf-8') as file:
            return busy_seconds(json.load(file)['traceEvents'])
