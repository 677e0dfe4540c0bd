# SPDX-License-Identifier: Apache-2.0
"""Linking of queries from frame to frame by the cosine similarity of their embeddings."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F


class CosineTracker(BaseModule):
    """Gives the queries of each frame to the slots of a clip, one to one, by the similarity to what was before.

    The S slots are the queries of the first frame: none ends, and none begins later. A subclass says what is remembered
    of a slot and how a frame is compared with it. Nothing is kept from one clip to the next.
    """

    @torch.no_grad()
    def forward(self, frames: list[InstanceData]) -> InstanceData:
        """Link the queries of the frames of a clip.

        Args:
            frames (list[InstanceData]): T frames of Q queries, each with ``scores`` (Q,) in [0, 1], ``masks`` (Q, 1,
                h4, w4) logits, ``query_embeds`` (Q, C) float, and anything else (Q, ...), such as ``object_logits``
                (Q, 2), 'object' first.

        Returns:
            InstanceData: S = Q slots with ``masks`` (S, T, h4, w4); ``scores`` (S,), the softmax of the mean over
            frames of the object logits, or without these the mean of the scores; everything else in the order of the
            slots, (S, T, ...). Metainfo ``link_index`` (T, S) int64 is the query of frame t in slot s.

        Raises:
            ValueError: not a list of frames of equally many queries with embeddings.
        """
        _check_frames(frames)
        index = self.link([frame.query_embeds for frame in frames])
        aligned = [frame[slots] for frame, slots in zip(frames, index, strict=True)]
        clip = InstanceData(metainfo=dict(link_index=index))
        for key in frames[0].keys():  # noqa: SIM118 (an InstanceData is no dict)
            values = [frame[key] for frame in aligned]
            clip[key] = torch.cat(values, 1) if key == 'masks' else torch.stack(values, 1)
        if 'object_logits' in clip:
            # logits are averaged, not scores, also where a slot is not visible
            clip.scores = clip.object_logits.float().mean(1).softmax(-1)[:, 0]
        else:
            clip.scores = clip.scores.mean(1)
        return clip

    def link(self, embeds: Sequence[Tensor]) -> Tensor:
        """Link queries by their embeddings alone.

        Args:
            embeds (Sequence[Tensor]): of T frames, each (Q, C) float.

        Returns:
            Tensor: (T, S) int64, the query of frame t in slot s; that of the first frame is 0 .. Q - 1.
        """
        embeds = [embed.float() for embed in embeds]
        index = [torch.arange(len(embeds[0]), device=embeds[0].device)]
        memory = self.start(embeds[0])
        for embed in embeds[1:]:
            index.append(self.match(memory, embed))
            memory = self.remember(memory, embed[index[-1]])
        return torch.stack(index)

    def start(self, embeds: Tensor) -> Any:
        """Memory of the embeddings (S, C) of the first frame."""
        raise NotImplementedError

    def match(self, memory: Any, embeds: Tensor) -> Tensor:
        """For each slot of the memory the query (S,) int64 of a frame with embeddings (Q, C)."""
        raise NotImplementedError

    def remember(self, memory: Any, aligned: Tensor) -> Any:
        """Memory after a frame whose embeddings (S, C) are in the order of the slots."""
        raise NotImplementedError


def cosine_cost(slots: Tensor, embeds: Tensor) -> Tensor:
    """Cost 1 - cosine (S, Q), 0 to 2, of slots (S, C) and queries (Q, C)."""
    with torch.autocast(slots.device.type, enabled=False):
        cost = 1 - F.normalize(slots, dim=-1) @ F.normalize(embeds, dim=-1).T
    return cost.nan_to_num(2.0)  # what has no value fits nothing, and does not end a test


def assign(cost: Tensor) -> tuple[Tensor, float]:
    """One-to-one assignment of the smallest total cost.

    Args:
        cost (Tensor): (S, Q), slots are rows: which solution is found among equal ones depends on it.

    Returns:
        tuple: the query of each slot, (S,) int64, and the total cost.
    """
    table = cost.cpu().numpy()
    rows, columns = linear_sum_assignment(table)
    return torch.from_numpy(columns).to(cost.device), float(table[rows, columns].sum())


def _check_frames(frames: Any) -> None:
    """Raise ValueError if a tracker cannot link these."""
    if isinstance(frames, InstanceData):
        raise ValueError('a tracker needs a head of single frames, this one gives the queries of a whole clip')
    if not frames:
        raise ValueError('a clip must have a frame, got none')
    counts = sorted({len(frame) for frame in frames})
    if len(counts) != 1 or not all('query_embeds' in frame for frame in frames):
        raise ValueError(
            f'frames must have equally many queries, with query_embeds, got {counts} queries with {frames[0].keys()}'
        )
