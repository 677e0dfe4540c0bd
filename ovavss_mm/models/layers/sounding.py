# SPDX-License-Identifier: Apache-2.0
"""Which queries sound, and in which frames."""

from mmengine.structures import InstanceData
from torch import Tensor


def sounding(queries: InstanceData, sound_thr: float | None) -> InstanceData:
    """Queries whose sound score is above a threshold, in the frames in which it is; None: all as they are.

    Args:
        queries (InstanceData): ``scores`` (Q,) and ``masks`` (Q, T, h, w) logits; where there are ``frame_sounds`` (Q,
            T), the sound scores of single frames, masks are dropped from the frames in which these are not above it.
        sound_thr (float, optional): the threshold, in [0, 1].
    """
    if sound_thr is None:
        return queries
    queries = queries[(queries.scores > sound_thr).nonzero()[:, 0]]
    if 'frame_sounds' in queries:
        queries.masks = drop_frames(queries.masks, queries.frame_sounds <= sound_thr)
    return queries


def drop_frames(masks: Tensor, dropped: Tensor) -> Tensor:
    """Mask logits (M, T, h, w), -1 in the dropped (M, T) frames, so that resizing makes no pixel of them positive."""
    return masks.masked_fill(dropped[:, :, None, None], -1.0)
