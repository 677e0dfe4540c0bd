# SPDX-License-Identifier: Apache-2.0
"""When each class sounds, gathered frame by frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...models.segmentors.windows import FrameClass

_DIGITS = 4


@dataclass
class _ClassRecord:
    """Intervals of one class, and sums over its frames."""

    intervals: list[list[float]] = field(default_factory=list)
    frames: int = 0
    area: float = 0.0
    sound: float = 0.0
    score: float = 0.0


class ClassTimeline:
    """Joins the classes of labelled frames to intervals; memory grows with the changes, not with the frames.

    Args:
        names (Sequence[str]): N class names.
        fps (int): labelled frames per second. Defaults to 1.
    """

    def __init__(self, names: Sequence[str], fps: int = 1) -> None:
        self.names, self.fps = tuple(names), fps
        self.num_frames = 0
        self._records: dict[int, _ClassRecord] = {}

    def add(self, time: float, found: Mapping[int, FrameClass]) -> dict[str, Any]:
        """Add the next labelled frame by its time in seconds and the classes in it, by name index.

        Returns:
            dict: its record: ``time`` and ``names``, by name ``area`` (share of the frame), ``sound`` and ``score``.
        """
        self.num_frames += 1
        end = (round(time * self.fps) + 1) / self.fps
        for index, frame in found.items():
            record = self._records.setdefault(index, _ClassRecord())
            if record.intervals and record.intervals[-1][1] >= time - 0.5 / self.fps:
                record.intervals[-1][1] = end
            else:
                record.intervals.append([time, end])
            record.frames += 1
            record.area += frame.area
            record.sound += frame.sound
            record.score += frame.score
        names = {
            self.names[index]: _rounded(frame.area, frame.sound, frame.score) for index, frame in sorted(found.items())
        }
        return dict(time=round(time, _DIGITS), names=names)

    def summary(self, duration: float | None = None) -> dict[str, dict[str, Any]]:
        """Summarise the classes that sound, longest first; no interval ends after ``duration`` seconds.

        Returns:
            dict: by name ``intervals`` [[from, to], ...], ``seconds``, and the means over the frames of the class of
            ``area``, ``sound`` and ``score``.
        """
        out = {}
        for index, record in self._records.items():
            intervals = [
                [round(start, _DIGITS), round(min(end, duration or end), _DIGITS)] for start, end in record.intervals
            ]
            means = (value / record.frames for value in (record.area, record.sound, record.score))
            seconds = round(sum(end - start for start, end in intervals), _DIGITS)
            out[self.names[index]] = dict(intervals=intervals, seconds=seconds, **_rounded(*means))
        return dict(sorted(out.items(), key=lambda item: (-item[1]['seconds'], item[0])))


def _rounded(area: float, sound: float, score: float) -> dict[str, float]:
    """The figures of a class as they are written."""
    return dict(area=round(area, _DIGITS + 2), sound=round(sound, _DIGITS), score=round(score, _DIGITS))
