# SPDX-License-Identifier: Apache-2.0
"""When each class and each object sounds, and when nothing does, gathered frame by frame."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...models.segmentors.windows import FrameClass, FrameObject

NOTHING_SOUNDS = 'nothing visible sounds'  # what people read of frames without a label
_DIGITS = 4
_MAX_LISTED = 8  # objects of a name


@dataclass
class _Spans:
    """Labelled frames, joined to intervals."""

    intervals: list[list[float]] = field(default_factory=list)

    def extend(self, time: float, end: float, fps: int) -> None:
        """Add a frame that is shown from ``time`` to ``end`` seconds."""
        if self.intervals and self.intervals[-1][1] >= time - 0.5 / fps:
            self.intervals[-1][1] = end
        else:
            self.intervals.append([time, end])

    def summary(self, duration: float | None) -> dict[str, Any]:
        """Intervals, none of which ends after ``duration`` seconds, and their sum."""
        intervals = [
            [round(start, _DIGITS), round(min(end, duration or end), _DIGITS)] for start, end in self.intervals
        ]
        return dict(intervals=intervals, seconds=round(sum(end - start for start, end in intervals), _DIGITS))


@dataclass
class _Record(_Spans):
    """Intervals of a class or an object, and sums over its frames."""

    frames: int = 0
    area: float = 0.0
    sound: float = 0.0
    score: float = 0.0
    names: Counter = field(default_factory=Counter)  # of an object: frames, by 0-based name and number

    def add(self, time: float, end: float, fps: int, frame: FrameClass) -> None:
        """Add a frame that is shown from ``time`` to ``end`` seconds."""
        self.extend(time, end, fps)
        self.frames += 1
        self.area += frame.area
        self.sound += frame.sound
        self.score += frame.score

    def summary(self, duration: float | None) -> dict[str, Any]:
        """What :class:`_Spans` says, and means over the frames."""
        means = (value / self.frames for value in (self.area, self.sound, self.score))
        return super().summary(duration) | _rounded(*means)


class ClassTimeline:
    """Joins classes and objects of labelled frames to intervals; memory grows with the changes, not with the frames.

    Args:
        names (Sequence[str]): N class names.
        fps (int): labelled frames per second. Defaults to 1.
    """

    def __init__(self, names: Sequence[str], fps: int = 1) -> None:
        self.names, self.fps = tuple(names), fps
        self.num_frames = 0
        self._records: dict[int, _Record] = {}
        self._objects: dict[int, _Record] = {}
        self._silent = _Spans()

    def add(self, time: float, found: Mapping[int, FrameClass], objects: Sequence[FrameObject] = ()) -> dict[str, Any]:
        """Add the next labelled frame by its time in seconds, the classes in it by name index, and the objects in it.

        Returns:
            dict: its record: ``time``; ``names``, by name ``area`` (share of the frame), ``sound`` and ``score``; and
            ``objects``, of each ``id``, ``name``, ``number`` among those of the name, ``box`` [left, top, right,
            bottom] in pixels, and the same figures.
        """
        self.num_frames += 1
        end = (round(time * self.fps) + 1) / self.fps
        if not found:
            self._silent.extend(time, end, self.fps)
        for index, frame in found.items():
            self._records.setdefault(index, _Record()).add(time, end, self.fps, frame)
        for frame in objects:
            record = self._objects.setdefault(frame.id, _Record())
            record.add(time, end, self.fps, frame)
            record.names[frame.label, frame.number] += 1
        names = {
            self.names[index]: _rounded(frame.area, frame.sound, frame.score) for index, frame in sorted(found.items())
        }
        listed = [
            dict(self._named(x.id, x.label, x.number), box=list(x.box), **_rounded(x.area, x.sound, x.score))
            for x in objects
        ]
        return dict(time=round(time, _DIGITS), names=names, objects=listed)

    def summary(self, duration: float | None = None) -> dict[str, dict[str, Any]]:
        """Summarise the classes that sound, longest first; no interval ends after ``duration`` seconds.

        Returns:
            dict: by name ``intervals`` [[from, to], ...], ``seconds``, and the means over the frames of the class of
            ``area``, ``sound`` and ``score``.
        """
        out = {self.names[index]: record.summary(duration) for index, record in self._records.items()}
        return dict(sorted(out.items(), key=lambda item: (-item[1]['seconds'], item[0])))

    def objects(self, duration: float | None = None) -> list[dict[str, Any]]:
        """Summarise the objects that sound, in order of appearance.

        Returns:
            list[dict]: of each ``id``, the ``name`` that it has in most frames and its ``number`` among those of the
            name, and what :meth:`summary` says of a class.
        """
        return [
            dict(self._named(identity, *record.names.most_common(1)[0][0]), **record.summary(duration))
            for identity, record in self._objects.items()
        ]

    def silent(self, duration: float | None = None) -> dict[str, Any]:
        """``intervals`` and ``seconds``, as of :meth:`summary`, of the frames in which no class sounds."""
        return self._silent.summary(duration)

    def _named(self, identity: int, label: int, number: int) -> dict[str, Any]:
        """What an object is called."""
        return dict(id=identity, name=self.names[label], number=number)


def _rounded(area: float, sound: float, score: float) -> dict[str, float]:
    """The figures of a class as they are written."""
    return dict(area=round(area, _DIGITS + 2), sound=round(sound, _DIGITS), score=round(score, _DIGITS))


def listed_objects(prediction: dict[str, Any], name: str) -> tuple[list[dict[str, Any]], int]:
    """Of a name of several objects those that sound longest, by number, and how many more there are."""
    found = [what for what in prediction['objects'] if what['name'] == name]
    if len(found) <= 1:
        return [], 0
    longest = sorted(found, key=lambda what: -what['seconds'])[:_MAX_LISTED]
    return sorted(longest, key=lambda what: what['number']), len(found) - len(longest)
