# SPDX-License-Identifier: Apache-2.0
"""Identities that last over the windows of a video, and through silence."""

from dataclasses import dataclass, field

import numpy as np
import torch
from mmengine.structures import InstanceData
from mmseg.registry import TASK_UTILS
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

MAX_SIDE = 160  # pixels of the masks that are compared
SAME_IOU = 0.5  # of the masks of two pairs of a window, from which they are of one object


@dataclass
class _Identity:
    """What is remembered of an object."""

    id: int
    looks: dict[str, Tensor]  # of its last window, see EVIDENCE
    last: int = 0  # frame in which it was seen last
    masks: dict[int, Tensor] = field(default_factory=dict)  # bool (h, w), of the last frames


@TASK_UTILS.register_module()
class WindowLinker:
    def __init__(
        self,
        min_iou: float | None = 0.3,
        min_similarity: float | None = 0.5,
        memory: float | None = 300.0,
        fps: int = 1,
        kind='class',
        veto=True,
        near=True, split=0.2,
    ) -> None:
        self.min_iou, self.min_similarity, self.memory, self.fps = min_iou, min_similarity, memory, fps
        self._identities: list[_Identity] = []
        self._count = 0
        self.kind,self.veto,self.near=kind,veto,near; self.split=split

    def __call__(self, numbers: list[int], pairs: InstanceData) -> list[int]:
        if self.split: pairs = split_pairs(pairs, self.split)
        self.pairs = pairs
        step = -(-max(pairs.masks.shape[-2:]) // MAX_SIDE)
        masks = pairs.masks[..., ::step, ::step]
        objects = _same_objects(masks)
        first = sorted(set(objects))
        seen = [{n: masks[row, t].cpu() for t, n in enumerate(numbers) if masks[row, t].any()} for row in first]
        looks = [self._looks(pairs, row) for row in first]
        if self.memory is not None:
            self._identities = [x for x in self._identities if numbers[0] - x.last <= self.memory * self.fps]
        found = self._match(seen, looks)
        for i, identity in enumerate(found):
            if identity is None:
                self._count += 1
                found[i] = identity = _Identity(self._count, looks[i])
                self._identities.append(identity)
            identity.looks = looks[i]
            identity.masks |= seen[i]
            identity.last = max(seen[i], default=numbers[0])
        for identity in self._identities:  # of frames that no later window sees or is next to
            identity.masks = {n: m for n, m in identity.masks.items() if n >= numbers[0]-self.fps}
        ids = {row: identity.id for row, identity in zip(first, found, strict=True)}
        return [ids[row] for row in objects]

    def _looks(self, pairs, row):
        return {k: pairs[k][row] for k in ('query_embeds','image_embeds','class_scores') if k in pairs} | dict(label=pairs.labels[row])

    def _match(self, seen, looks):
        table = torch.tensor([[self._affinity(x, s, l) for s, l in zip(seen, looks)] for x in self._identities]).reshape(len(self._identities), len(seen))
        found = [None] * len(seen)
        for row, column in zip(*linear_sum_assignment(-table.numpy())):
            if table[row, column] > 0:
                found[column] = self._identities[row]
        return found

    def sim(self, a, b):
        c = lambda k: F.cosine_similarity(a[k], b[k], 0).item()
        k=self.kind
        if k=='query': return c('query_embeds')
        if k=='image': return c('image_embeds')
        if k=='class': return c('class_scores')
        if k=='label': return float(a['label']==b['label'])
        if k=='class*image': return c('class_scores')*(1+c('image_embeds'))/2
        if k=='class*query': return c('class_scores')*(1+c('query_embeds'))/2
        if k=='label&image': return (a['label']==b['label'])*c('image_embeds')
        if k=='label&query': return (a['label']==b['label'])*c('query_embeds')
        if k=='label+image': return (.25*(a['label']==b['label'])+.75*c('image_embeds'))
        if k=='label+query': return (.5*(a['label']==b['label'])+.5*c('query_embeds'))
        if k=='label*query': return float(a['label']==b['label'])*(1+c('query_embeds'))/2

    def _affinity(self, identity, masks, looks) -> float:
        iou, gap = _overlap(identity.masks, masks, self.fps if self.near else 0)
        if self.min_iou is not None and iou >= self.min_iou:
            return 2 + iou
        if self.veto and self.min_iou is not None and gap == 0:
            return 0
        if self.min_similarity is None: return 0
        s=self.sim(identity.looks, looks)
        return s if s >= self.min_similarity else 0

def _overlap(old, new, reach):
    gaps=[(abs(a-b),a,b) for a in old for b in new]
    gap=min((g for g,_,_ in gaps), default=None)
    if gap is None or gap>reach: return 0.0, None
    i=u=0
    for g,a,b in gaps:
        if g==gap:
            i+=(old[a]&new[b]).sum().item(); u+=(old[a]|new[b]).sum().item()
    return i/u, gap


def split_pairs(pairs, min_share):
    rows, masks = [], []
    for row, mask in enumerate(pairs.masks):
        for part in _split(mask.cpu().numpy(), min_share):
            rows.append(row); masks.append(torch.from_numpy(part))
    out = InstanceData(**{k: v[rows] for k, v in pairs.items() if k != 'masks'})
    out.masks = torch.stack(masks).to(pairs.masks.device) if masks else pairs.masks
    return out

def _split(mask, min_share):
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count <= 1: return [mask]
    sizes = np.stack([np.bincount(p.ravel(), minlength=count + 1)[1:] for p in pieces])  # (T, pieces)
    objects = []  # [pieces]
    order = np.argsort(-sizes.sum(0), kind='stable')
    least = min_share * sizes.sum(0).max()
    for piece in order:
        if sizes[:, piece].sum() < least:
            objects[0].append(piece + 1); continue
        there = sizes[:, piece] > 0
        for o in objects:
            if not (there & (sizes[:, np.array(o) - 1].sum(1) > 0)).any():
                o.append(piece + 1); break
        else:
            objects.append([piece + 1])
    return [np.isin(pieces, o) for o in objects]


def _same_objects(masks: Tensor) -> list[int]:
    flat = masks.flatten(1).float()
    inter = flat @ flat.T
    area = flat.sum(1)
    iou = inter / (area[:, None] + area - inter).clamp(min=1)
    first = []
    for row in range(len(iou)):
        same = [i for i in dict.fromkeys(first) if iou[row, i] >= SAME_IOU]
        first.append(max(same, key=lambda i: iou[row, i]) if same else row)
    return first
