# SPDX-License-Identifier: Apache-2.0
"""Which name sounds when, gathered frame by frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..models.segmentors.windows import FrameClass

_DIGITS = 4


@dataclass
class _Heard:
    """What is known of one name so far."""

    intervals: list[list[float]] = field(default_factory=list)
    frames: int = 0
    area: float = 0.0
    sound: float = 0.0
    score: float = 0.0


class Timeline:
    """Gathers what was found in labelled frames; memory grows with the changes, not with the frames.

    Args:
        vocabulary: N names.
        fps: labelled frames a second.
    """

    def __init__(self, vocabulary: Sequence[str], fps: int = 1) -> None:
        self.vocabulary, self.fps = tuple(vocabulary), fps
        self.num_frames = 0
        self._heard: dict[int, _Heard] = {}

    def add(self, time: float, found: Mapping[int, FrameClass]) -> dict[str, Any]:
        """Take the next labelled frame.

        Args:
            time: of the frame, in seconds; it stands for ``1 / fps`` seconds.
            found: by name index.

        Returns:
            The frame's record: ``time`` and, by name, ``area`` (share of the frame), ``sound`` and ``score``.
        """
        self.num_frames += 1
        end = (round(time * self.fps) + 1) / self.fps
        for index, what in found.items():
            heard = self._heard.setdefault(index, _Heard())
            if heard.intervals and heard.intervals[-1][1] >= time - 0.5 / self.fps:
                heard.intervals[-1][1] = end
            else:
                heard.intervals.append([time, end])
            heard.frames += 1
            heard.area += what.area
            heard.sound += what.sound
            heard.score += what.score
        names = {
            self.vocabulary[index]: dict(
                area=round(what.area, _DIGITS + 2), sound=round(what.sound, _DIGITS), score=round(what.score, _DIGITS)
            )
            for index, what in sorted(found.items())
        }
        return dict(time=round(time, _DIGITS), names=names)

    def names(self, duration: float | None = None) -> dict[str, dict[str, Any]]:
        """What is known by name, of the names that sound, longest first.

        Args:
            duration: of the video in seconds: nothing sounds longer.

        Returns:
            ``intervals`` [[from, to], ...] and ``seconds`` in which the name sounds; ``area``, ``sound`` and
            ``score``, means over the labelled frames in which it does.
        """
        out = {}
        for index, heard in self._heard.items():
            intervals = [
                [round(start, _DIGITS), round(min(end, duration or end), _DIGITS)] for start, end in heard.intervals
            ]
            out[self.vocabulary[index]] = dict(
                intervals=intervals,
                seconds=round(sum(end - start for start, end in intervals), _DIGITS),
                area=round(heard.area / heard.frames, _DIGITS + 2),
                sound=round(heard.sound / heard.frames, _DIGITS),
                score=round(heard.score / heard.frames, _DIGITS),
            )
        return dict(sorted(out.items(), key=lambda item: (-item[1]['seconds'], item[0])))
