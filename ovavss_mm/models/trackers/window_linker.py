# SPDX-License-Identifier: Apache-2.0
"""Identities of objects that last over the windows of a video, and through silence."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData
from mmseg.registry import TASK_UTILS
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from ..interfaces import Linker

SIMILARITIES = ('names', 'queries')
MAX_SIDE = 320  # pixels of the masks that are split and compared
SAME_IOU = 0.5  # from which two masks of a window are one object
LEAST_SCORE = 1e-30  # whose logarithm is taken
# Class scores are compared from so many on: of two, centred logarithms are alike or opposite, whatever they are.
MIN_NAMES = 4
MAX_PARTS = 50  # of a mask that may be objects
LOOKS = ('labels', 'class_scores', 'query_embeds')  # what similarity is taken from

Masks = dict[int, Tensor]  # by number of the frame, bool (h, w), none of them empty


@dataclass
class _Identity:
    """What is remembered of an object."""

    id: int
    pair: InstanceData | None = None  # of its best one in the last window that saw it, LOOKS
    masks: Masks = field(default_factory=dict)  # of frames that later windows may see or be next to
    last: int = 0  # frame in which it was seen last


@TASK_UTILS.register_module()
class WindowLinker:
    """Gives the pairs of query and name of a video's windows the ids of objects; one linker a video.

    Pairs whose masks are nearly the same are one object: those of one query with several names, and of two queries that
    see the same. A mask of parts that lie apart in some frame and never touch is several objects of one name.

    An object of a window is an earlier one if their masks overlap, in the frames that both have or else in the nearest
    ones, up to a second apart; else if both are alike, unless a frame shows the two at different places. Each is linked
    once, those that overlap first, so that the links are the best in sum.

    Args:
        min_iou (float, optional): IoU of masks, above 0 to 1, from which they are linked. None: overlap says nothing.
            Defaults to 0.3.
        min_similarity (float, optional): similarity, above 0 to 1, from which objects are linked that do not overlap.
            None: similarity says nothing. Defaults to 0.5.
        similarity (str): 'names', the correlation of the logarithms of the class scores, so that what an object looks
            like decides and not only its best name; or 'queries', the cosine of query embeddings. Pairs without these,
            and class scores of fewer than 4 names, are as similar as their names are equal. Defaults to 'names'.
        memory (float, optional): seconds after which an object that was not seen is forgotten. None: never. Defaults to
            300.
        min_part (float, optional): of a mask of several parts, the least share of the largest one's size that makes a
            part an object, above 0 to 1. None: a mask is always one object. Defaults to 0.2.
        fps (int): labelled frames a second. Defaults to 1.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(
        self,
        min_iou: float | None = 0.3,
        min_similarity: float | None = 0.5,
        similarity: str = 'names',
        memory: float | None = 300.0,
        min_part: float | None = 0.2,
        fps: int = 1,
    ) -> None:
        for name, value, most in (
            ('min_iou', min_iou, 1),
            ('min_similarity', min_similarity, 1),
            ('memory', memory, float('inf')),
            ('min_part', min_part, 1),
        ):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value <= most):
                upper = '' if most == float('inf') else f' and at most {most}'
                raise ValueError(f'{name} must be None, or above 0{upper}, got {value!r}')
        if similarity not in SIMILARITIES:
            raise ValueError(f'similarity must be one of {SIMILARITIES}, got {similarity!r}')
        if type(fps) is not int or fps < 1:
            raise ValueError(f'fps must be a whole number above 0, got {fps!r}')
        self.min_iou, self.min_similarity, self.memory = min_iou, min_similarity, memory
        self.similarity, self.min_part, self.fps = similarity, min_part, fps
        self._known: list[_Identity] = []
        self._count = 0

    @torch.no_grad()
    def __call__(self, numbers: list[int], pairs: InstanceData) -> InstanceData:
        """Take the next window.

        Args:
            numbers (list[int]): of its T frames, a second apart, ``fps`` numbers a second; no window begins a second
                or more before an earlier one.
            pairs (InstanceData): painted pairs, best first: ``labels`` (M,), ``masks``, bool (M, T, H, W), and if the
                model has them ``class_scores`` (M, N) and ``query_embeds`` (M, C).

        Returns:
            InstanceData: the pairs, where a mask was several objects one for each in its place, with ``ids`` (M',)
            int64, 0 where a mask is empty.
        """
        step = -(-max(pairs.masks.shape[-2:]) // MAX_SIDE)
        small = shrink_masks(pairs.masks, step)
        if self.min_part is not None:
            pairs, small = split_pairs(pairs, small, step, self.min_part)
        leaders = same_objects(small)  # by pair, the first one of its object
        rows = [row for row in sorted(set(leaders)) if small[row].any()]
        seen = [{n: m for n, m in zip(numbers, small[row], strict=True) if m.any()} for row in rows]
        looks = InstanceData(**{key: pairs[key].cpu() for key in LOOKS if key in pairs})  # one wait for a GPU
        if self.memory is not None:
            self._known = [x for x in self._known if numbers[0] - x.last <= self.memory * self.fps]
        ids = dict(zip(rows, self._link([looks[row] for row in rows], seen, numbers), strict=True))
        pairs.ids = torch.tensor([ids.get(row, 0) for row in leaders], dtype=torch.long, device=pairs.masks.device)
        return pairs

    def _link(self, objects: list[InstanceData], seen: list[Masks], numbers: list[int]) -> list[int]:
        """Ids of the objects of a window, each the looks of a pair, with their masks; remembers them."""
        affinity = [
            [self._affinity(identity, *found) for found in zip(objects, seen, strict=True)] for identity in self._known
        ]
        links = {}
        if affinity:
            table = np.array(affinity).reshape(len(self._known), len(objects))
            pairs = zip(*linear_sum_assignment(table, maximize=True), strict=True)
            links = {column: self._known[row] for row, column in pairs if table[row, column] > 0}
        ids = []
        for column, (pair, masks) in enumerate(zip(objects, seen, strict=True)):
            identity = links.get(column)
            if identity is None:
                self._count += 1
                identity = _Identity(self._count)
                self._known.append(identity)
            identity.pair, identity.masks, identity.last = pair, identity.masks | masks, max(masks)
            ids.append(identity.id)
        # later windows begin less than a second before this one, and are compared with what is up to a second earlier
        first = numbers[0] - 2 * self.fps + 1
        for identity in self._known:
            identity.masks = {n: m for n, m in identity.masks.items() if n >= first}
        return ids

    def _affinity(self, identity: _Identity, pair: InstanceData, masks: Masks) -> float:
        """How well an object of a window fits an earlier one: 2 to 3 by overlap, to 1 by similarity, 0 not at all."""
        iou, gap = overlap(identity.masks, masks)
        if self.min_iou is not None and gap <= self.fps:
            if iou >= self.min_iou:
                return 2 + iou
            if gap == 0:  # at different places in one frame
                return 0.0
        if self.min_similarity is None:
            return 0.0
        alike = alikeness(identity.pair, pair, self.similarity)
        return alike if alike >= self.min_similarity else 0.0


def overlap(old: Masks, new: Masks) -> tuple[float, float]:
    """IoU of the masks of two objects, over the frames that both have or else the nearest ones.

    The second figure is how many frames apart these are, infinite without masks.
    """
    gaps = [(abs(a - b), a, b) for a in old for b in new]
    least = min((gap for gap, _, _ in gaps), default=float('inf'))
    both = either = 0
    for gap, a, b in gaps:
        if gap == least:
            both += int((old[a] & new[b]).sum())
            either += int((old[a] | new[b]).sum())
    return both / max(either, 1), least


def alikeness(old: InstanceData, new: InstanceData, kind: str) -> float:
    """How similar two pairs are, -1 to 1; each has one row, see :class:`WindowLinker`."""
    key = 'query_embeds' if kind == 'queries' else 'class_scores'
    if key not in old or key not in new or (kind == 'names' and new.class_scores.shape[1] < MIN_NAMES):
        return float(old.labels == new.labels)
    a, b = (pair[key].float() for pair in (old, new))
    if kind == 'names':
        a, b = (x.clamp(min=LEAST_SCORE).log() for x in (a, b))
        a, b = a - a.mean(), b - b.mean()
    return float(F.cosine_similarity(a, b)[0])


def same_objects(masks: Tensor) -> list[int]:
    """For each of M masks, bool (M, T, h, w), the first one that is nearly the same, or itself."""
    flat = masks.flatten(1).float()
    both, area = flat @ flat.T, flat.sum(1)
    iou = both / (area[:, None] + area - both).clamp(min=1)
    leaders: list[int] = []
    for row in range(len(iou)):
        same = [i for i in dict.fromkeys(leaders) if iou[row, i] >= SAME_IOU]
        leaders.append(max(same, key=iou[row].__getitem__) if same else row)
    return leaders


def shrink_masks(masks: Tensor, step: int) -> Tensor:
    """Masks, bool (M, T, H, W), ``step`` times smaller: set where any pixel is, so that no object is lost."""
    small = torch.zeros(*masks.shape[:2], *(-(-side // step) for side in masks.shape[2:]), dtype=torch.bool)
    for out, mask in zip(small, masks, strict=True):  # one after the other: as floats they are large
        out.copy_(F.max_pool2d(mask.float(), step, ceil_mode=True) > 0)
    return small


def split_pairs(pairs: InstanceData, small: Tensor, step: int, min_part: float) -> tuple[InstanceData, Tensor]:
    """Pairs with a mask of several objects, see :class:`WindowLinker`, become one for each, the largest first.

    ``small`` are the masks of :func:`shrink_masks`, in which objects are looked for; both are returned.
    """
    rows: list[int] = []
    parts: list[np.ndarray] = []
    for row, mask in enumerate(small):
        found = split_mask(mask.numpy(), min_part)
        rows, parts = rows + [row] * len(found), parts + found
    if len(rows) == len(pairs):
        return pairs, small
    out = InstanceData(**{key: value[rows] for key, value in pairs.items()})
    small, (height, width) = torch.from_numpy(np.stack(parts)), pairs.masks.shape[2:]
    for mask, row, part in zip(out.masks, rows, small, strict=True):
        if rows.count(row) > 1:
            # (T, h, w) -> (T, H, W)
            mask &= part.to(mask.device).repeat_interleave(step, 1).repeat_interleave(step, 2)[:, :height, :width]
    return out, small


def split_mask(mask: np.ndarray, min_part: float) -> list[np.ndarray]:
    """Split a mask, bool (T, H, W), into those of its objects, which together are the mask; the largest first.

    A part is what hangs together in a frame and from one to the next. The largest is the first object, and small ones
    belong to it. Each further one joins the first object that is in none of its frames, or is an object of its own.
    """
    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.stack([np.bincount(frame.ravel(), minlength=count + 1)[1:] for frame in parts], 1)  # (parts, T)
    total = sizes.sum(1)
    order = np.argsort(-total, kind='stable')[:MAX_PARTS]
    owner = np.ones(count + 1, int)  # by part, counted from 1; specks stay with the first object
    owner[0] = 0
    used: list[np.ndarray] = []  # by object, the frames that it is in, bool (T,)
    for part in order[total[order] >= min_part * total.max(initial=0)]:
        there = sizes[part] > 0
        free = next((i for i, frames in enumerate(used) if not (frames & there).any()), len(used))
        if free == len(used):
            used.append(there)
        else:
            used[free] |= there
        owner[part + 1] = free + 1
    return [mask] if len(used) <= 1 else [owner[parts] == i for i in range(1, len(used) + 1)]


def linker_of(cfg: dict[str, Any] | None, fps: int = 1) -> Linker | None:
    """The linker of a config for one video, with its ``fps``; None for None.

    Raises:
        ValueError: a wrong key or value.
    """
    if cfg is None:
        return None
    try:
        linker = TASK_UTILS.build(dict(type='WindowLinker') | cfg)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'linker: {error}') from error
    linker.fps = fps
    return linker
