# SPDX-License-Identifier: Apache-2.0
"""Windows that slide over time, and how overlapping windows become one label map a frame."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from .label_map import paint

LEAST_EVIDENCE = 1e-30  # of a pair where its mask is, so that a score of 0 is more than no mask


@dataclass
class Window:
    """Frames that the model sees together, a second apart.

    Args:
        numbers (list[int]): of its frames, counted over the stream.
        items (list[Any]): of the stream, one a frame.
    """

    numbers: list[int]
    items: list[Any]


def group_windows(stream: Iterable, length: int, stride: int, phases: int = 1) -> Iterator[tuple[list[Window], int]]:
    """Cut a stream into windows as it comes; the last one is shifted back rather than short.

    With ``phases`` frames a second, frame j belongs to phase ``j % phases``: the frames of a window are of one phase,
    so that they are a second apart, as in training.

    Args:
        stream (Iterable): one item a frame.
        length (int): T, frames of a window; a stream that is shorter is one window.
        stride (int): frames from one window to the next, 1 to ``length``.
        phases (int): frames a second. Defaults to 1.

    Yields:
        tuple: A window of each phase, and the number of the first frame that later windows may still see. At most
        ``(length + stride) * phases`` items are held.

    Raises:
        ValueError: a stride or number of phases out of range.
    """
    if not 1 <= stride <= length or phases < 1:
        raise ValueError(
            f'stride must be from 1 to the window of {length} frames, and phases at least 1, got {stride} and {phases}'
        )
    span, step = length * phases, stride * phases
    stream, held, first = iter(stream), [], 0
    while True:
        held.extend(islice(stream, span + step - len(held)))
        if len(held) < span + step:  # the stream has ended, and the next window would be short
            break
        yield _by_phase(first, held[:span], phases), first + step
        del held[:step]
        first += step
    rest = max(0, len(held) - span)
    if held:
        done = first + (rest or len(held))
        yield _by_phase(first, held[:span], phases), done
    if rest:
        yield _by_phase(first + rest, held[rest:], phases), first + len(held)


def _by_phase(first: int, items: list, phases: int) -> list[Window]:
    """Windows of the consecutive frames ``first``, ``first + 1``, ..., one for each phase that has any."""
    windows = []
    for phase in range(phases):
        numbers = [n for n in range(first, first + len(items)) if n % phases == phase]
        if numbers:
            windows.append(Window(numbers, [items[n - first] for n in numbers]))
    return windows


@dataclass
class FrameClass:
    """A class in a frame.

    Args:
        area (float): share of the frame's pixels that have its label.
        sound (float): sound score, 0 to 1.
        score (float): class score, 0 to 1.
    """

    area: float
    sound: float
    score: float


@dataclass
class FrameObject(FrameClass):
    """An object in a frame.

    Args:
        id (int): of the object, the same in all frames.
        label (int): 0-based name, that of most of its pixels.
        box (tuple[int, int, int, int]): left, top, right, bottom in pixels, right and bottom outside.
        number (int): among the objects that had this name, in order of appearance, from 1; 0 is not numbered yet.
            Defaults to 0.
    """

    id: int
    label: int
    box: tuple[int, int, int, int]
    number: int = 0


@dataclass
class _Part:
    """The pairs of one window that have a pixel in one frame, in painting order."""

    weight: float
    labels: list[int]
    scores: list[float]
    sound_scores: list[float]
    masks: Tensor  # bool (M, H, W)
    ids: list[int]  # of objects; empty where they are not known


class Blender:
    """Blends the pairs of overlapping windows into one label map a frame.

    A window gives a name, at a pixel, the evidence of its best pair there. Evidence is averaged over windows, which
    weigh more in their middle than at their ends. A pixel is labelled if windows of at least half the weight label it,
    with the name of the greatest evidence. For a frame of one window this is the model's own label map.

    Args:
        num_names (int): N.
    """

    def __init__(self, num_names: int) -> None:
        # 16 bits where 255 names and more need them, as the model does
        self.dtype = torch.uint8 if num_names < 255 else torch.int16
        self._parts: dict[int, list[_Part]] = defaultdict(list)
        self._next = 0

    def __len__(self) -> int:
        """Number of frames that wait for further windows."""
        return len(self._parts)

    def add(self, numbers: list[int], pairs: InstanceData) -> None:
        """Add the pairs of a window.

        Args:
            numbers (list[int]): of its T frames.
            pairs (InstanceData): painted pairs, best first: ``labels``, ``scores``, ``sound_scores`` (M,), ``masks``,
                bool (M, T, H, W); ``frame_sounds`` (M, T), sound scores of single frames, if there are such; and
                ``ids`` (M,) of a :class:`~ovavss_mm.models.trackers.WindowLinker`, if wanted.
        """
        ids = pairs.ids.tolist() if 'ids' in pairs else None
        labels, scores = pairs.labels.tolist(), pairs.scores.tolist()
        sound = pairs.get('frame_sounds', pairs.sound_scores[:, None].expand(-1, len(numbers))).tolist()  # (M, T)
        there = pairs.masks.flatten(2).any(-1).tolist()  # (M, T)
        for at, number in enumerate(numbers):
            rows = [row for row in range(len(labels)) if there[row][at]]
            self._parts[number].append(
                _Part(
                    weight=min(at + 1, len(numbers) - at),
                    labels=[labels[row] for row in rows],
                    scores=[scores[row] for row in rows],
                    sound_scores=[sound[row][at] for row in rows],
                    # a copy: the masks of the window can be freed; a list of rows would be sent to a GPU
                    masks=torch.stack([pairs.masks[row, at] for row in rows]) if rows else pairs.masks[:0, at],
                    ids=[] if ids is None else [ids[row] for row in rows],
                )
            )

    def take(self, before: int) -> Iterator[tuple[int, Tensor, list[_Part]]]:
        """Yield the frames that are done, in order, and free them.

        Args:
            before (int): number of the first frame that later windows may still see.

        Yields:
            tuple: number, label map (H, W), uint8 or int16, 0 background, i + 1 name i, on the device of the masks, and
            the windows' pairs, for :func:`frame_classes`.
        """
        while self._next < before:
            parts = self._parts.pop(self._next)
            yield self._next, blend_parts(parts).to(self.dtype), parts
            self._next += 1


def blend_parts(parts: list[_Part]) -> Tensor:
    """Blend the parts of a frame, at least one, into its label map (H, W) int64."""
    first = parts[0].masks
    if len(parts) == 1:  # the best pair of a pixel is the one painted first
        return paint(parts[0].labels, first)
    label_map = torch.zeros(first.shape[1:], dtype=torch.long, device=first.device)
    evidence: dict[int, Tensor] = {}  # by name, in the order in which names appear
    covered = torch.zeros(first.shape[1:], device=first.device)
    for part in parts:
        covered += part.weight * part.masks.any(0)
        for label in dict.fromkeys(part.labels):
            rows = [i for i, other in enumerate(part.labels) if other == label]
            evidence[label] = evidence.get(label, 0) + part.weight * _best(part, rows)
    if evidence:
        best = torch.stack(list(evidence.values())).argmax(0)
        names = torch.tensor(list(evidence), device=first.device)
        labelled = covered >= 0.5 * sum(part.weight for part in parts)
        label_map = torch.where(labelled, names[best] + 1, label_map)
    return label_map


def frame_classes(parts: list[_Part], label_map: Tensor) -> dict[int, FrameClass]:
    """List the classes of a frame.

    Args:
        parts (list[_Part]): the windows' pairs, from :meth:`Blender.take`.
        label_map (Tensor): (H, W), from there.

    Returns:
        dict[int, FrameClass]: By 0-based name: area from the label map, and the windows' scores, weighted.
    """
    found = {}
    for index, count in zip(*(x.tolist() for x in label_map.unique(return_counts=True)), strict=True):
        if index > 0:
            rows = [[i for i, label in enumerate(part.labels) if label == index - 1] for part in parts]
            found[index - 1] = FrameClass(count / label_map.numel(), *_mean_scores(parts, rows))
    return found


def _mean_scores(parts: list[_Part], rows: list[list[int]]) -> tuple[float, float]:
    """Weighted means over the windows of the best sound and class scores of some pairs, given for each window."""
    best = []  # weight, sound score, class score of the windows that see one
    for part, some in zip(parts, rows, strict=True):
        if some:
            best.append((part.weight, *(max(x[i] for i in some) for x in (part.sound_scores, part.scores))))
    total = sum(weight for weight, _, _ in best)
    sound, score = (sum(row[0] * row[i] for row in best) / total for i in (1, 2))
    return sound, score


def frame_objects(parts: list[_Part], label_map: Tensor) -> tuple[list[FrameObject], Tensor]:
    """List the objects of a frame; a pixel belongs to the object of the greatest evidence for the pixel's name.

    An object whose pixels have several names is of that of the most pixels; its scores are those of this name.

    Args:
        parts (list[_Part]): the windows' pairs with ids, from :meth:`Blender.take`.
        label_map (Tensor): (H, W), from there.

    Returns:
        tuple: objects, in painting order, and their map (H, W) int64: 0 background, i + 1 object i.
    """
    rows: dict[int, dict[int, list[list[int]]]] = {}  # by id and name, for each window
    for at, part in enumerate(parts):
        for i, (identity, label) in enumerate(zip(part.ids, part.labels, strict=True)):
            rows.setdefault(identity, {}).setdefault(label, [[] for _ in parts])[at].append(i)
    masks: dict[int, dict[int, Tensor]] = defaultdict(dict)  # likewise, in the label map
    for label in label_map.unique().tolist():
        owners = [identity for identity in rows if label - 1 in rows[identity]]
        there = label_map == label
        if len(owners) == 1:
            masks[owners[0]][label - 1] = there
        elif owners:
            left, top, right, bottom = _box(there)
            box = slice(top, bottom), slice(left, right)  # evidence is needed there only
            evidence: list[Any] = [  # maps: each owner is seen in a window
                sum(p.weight * _best(p, some, box) for p, some in zip(parts, rows[i][label - 1], strict=True) if some)
                for i in owners
            ]
            owner = torch.stack(evidence).argmax(0)
            for i, identity in enumerate(owners):
                masks[identity][label - 1] = torch.zeros_like(there)
                masks[identity][label - 1][box] = there[box] & (owner == i)
    objects, object_map = [], torch.zeros_like(label_map, dtype=torch.long)
    for identity in rows:
        counts = {label: int(mask.sum()) for label, mask in masks[identity].items()}
        if not any(counts.values()):
            continue
        mask, label = torch.stack(list(masks[identity].values())).any(0), max(counts, key=counts.get)
        object_map[mask] = len(objects) + 1
        sound, score = _mean_scores(parts, rows[identity][label])
        area = sum(counts.values()) / label_map.numel()
        objects.append(FrameObject(area=area, sound=sound, score=score, id=identity, label=label, box=_box(mask)))
    return objects, object_map


def _box(mask: Tensor) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a mask (H, W) that is not empty, right and bottom outside."""
    ys, xs = (mask.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    return xs[0], ys[0], xs[-1] + 1, ys[-1] + 1


class ObjectNumbers:
    """Numbers the objects of a video in order of appearance: their ids from 1 on, and those of each name."""

    def __init__(self) -> None:
        self._ids: dict[int, int] = {}
        self._numbers: dict[int, dict[int, int]] = defaultdict(dict)

    def __call__(self, objects: list[FrameObject]) -> list[FrameObject]:
        """Number the objects of the next frame, in place."""
        for found in objects:
            found.id = self._ids.setdefault(found.id, len(self._ids) + 1)
            same = self._numbers[found.label]
            found.number = same.setdefault(found.id, len(same) + 1)
        return objects


def _best(part: _Part, rows: list[int], box: Any = ...) -> Tensor:
    """Evidence (H, W) float32, or that in a box of slices, of the best of some pairs of a window."""
    best = torch.zeros_like(part.masks[0][box], dtype=torch.float32)
    for i in rows:  # one after the other: as floats, masks are large
        best = torch.maximum(best, part.masks[i][box] * max(part.scores[i], LEAST_EVIDENCE))
    return best
