# SPDX-License-Identifier: Apache-2.0
"""Parts the time of a step, or anything else that adds up, between stages that may be nested."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch

OTHER = 'other'


class Clock(Protocol):
    """Something to read when a stage begins or ends; seconds, or whatever else grows."""

    def mark(self) -> Any:
        """Take a reading."""

    def sync(self) -> None:
        """Wait until all readings are there."""

    def between(self, start: Any, end: Any) -> float:
        """How much it grew between two readings."""


class WallClock:
    """Seconds of real time, of work that is done when its call returns: a CPU's."""

    def mark(self) -> float:
        """Read the time in seconds."""
        return time.perf_counter()

    def sync(self) -> None:
        """Nothing to wait for."""

    def between(self, start: float, end: float) -> float:
        """Seconds between two readings."""
        return end - start


class CudaClock:
    """Seconds on a GPU, by events in its queue of work: the calls themselves are not waited for.

    A stage gets the time during which the GPU had nothing to do while the stage's calls were prepared, too.
    """

    def mark(self) -> torch.cuda.Event:
        """Put an event into the current stream."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def sync(self) -> None:
        """Wait for the GPU."""
        torch.cuda.synchronize()

    def between(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Seconds between two events."""
        return start.elapsed_time(end) / 1e3


class StageTimer:
    """Measures steps; what a stage calls in another stage counts for that other stage only.

    Each moment of a step belongs to one stage, the innermost, or to ``'other'``: stages sum up to the total.

    Args:
        clock: what is read.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.steps: list[dict[str, float]] = []
        self._stack: list[str] = []
        self._marks: list[tuple[Any, str]] | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Measure a step, and append what each stage took to ``steps``; a step that raises is not kept.

        Raises:
            RuntimeError: a step within a step.
        """
        if self._marks is not None:
            raise RuntimeError('a step was begun within a step')
        self.clock.sync()
        self._stack = [OTHER]
        self._marks = [(self.clock.mark(), OTHER)]
        try:
            yield
            self.steps.append(self._spans(self.clock.mark()))
        finally:
            self._marks = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage; outside of a step nothing is measured."""
        if self._marks is None:
            yield
            return
        self._stack.append(name)
        self._marks.append((self.clock.mark(), name))
        try:
            yield
        finally:
            self._stack.pop()
            self._marks.append((self.clock.mark(), self._stack[-1]))

    def wrap(self, name: str, function: Callable) -> Callable:
        """The function, measured as a stage whenever it is called."""

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return function(*args, **kwargs)

        return timed

    def _spans(self, end: Any) -> dict[str, float]:
        """Stage to what it took, ``'other'`` always among them."""
        self.clock.sync()
        spans = {OTHER: 0.0}
        for (start, name), (stop, _) in pairwise([*self._marks, (end, OTHER)]):
            spans[name] = spans.get(name, 0.0) + self.clock.between(start, stop)
        return spans


class Hook(NamedTuple):
    """A method that belongs to a stage.

    Attributes:
        stage: name of the stage.
        owner: the object.
        method: name of its method.
    """

    stage: str
    owner: Any
    method: str


@contextmanager
def patched(hooks: Iterable[Hook], wrap: Callable[[str, Callable], Callable]) -> Iterator[None]:
    """Replace methods of objects, not of their classes, and put them back whatever happens.

    Args:
        hooks: which methods.
        wrap: makes the replacement of a stage's name and the method.

    Raises:
        AttributeError: an object has no such method.
    """
    replaced = []
    try:
        for stage, owner, method in hooks:
            original = getattr(owner, method)
            replaced.append((owner, method, original, method in vars(owner)))
            setattr(owner, method, wrap(stage, original))
        yield
    finally:
        for owner, method, original, was_own in reversed(replaced):
            if was_own:
                setattr(owner, method, original)
            else:
                delattr(owner, method)
