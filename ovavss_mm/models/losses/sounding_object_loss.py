# SPDX-License-Identifier: Apache-2.0
"""Losses of what sounds against what does not, of single frames (GAVS)."""

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = 255  # label of pixels without annotation


def frame_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy, mean over a frame's annotated pixels; 0 where there is none.

    Args:
        logits (Tensor): (T, H, W) float.
        labels (Tensor): (T, H, W) uint8, 0 background, any other a sounding object, 255 not annotated.

    Returns:
        Tensor: (T,) float32.
    """
    known = (labels != IGNORED).float()
    pixels = F.binary_cross_entropy_with_logits(logits.float(), (labels > 0).float(), weight=known, reduction='none')
    return pixels.sum((1, 2)) / known.sum((1, 2)).clamp(min=1)


def audio_visual_triplet(audio: Tensor, maps: Tensor, inside: Tensor, outside: Tensor, margin: float) -> Tensor:
    """Triplet loss on cosine similarities: a frame's sound is nearer to its object than to the rest of the frame.

    Args:
        audio (Tensor): (T, C) embeddings of sound.
        maps (Tensor): (T, C, s, s) embeddings of frames.
        inside (Tensor): (T, s, s) share of each position that is sounding object, in [0, 1].
        outside (Tensor): (T, s, s) share that is annotated and no such object.
        margin (float): of the difference of similarities.

    Returns:
        Tensor: scalar, the mean over the frames that have both; 0 if none has.
    """
    both = (inside.sum((1, 2)) > 0) & (outside.sum((1, 2)) > 0)
    if not both.any():
        return maps.sum() * 0
    # weighted means of maps, (T, C, s, s) to (T', C) each
    near, far = (
        torch.einsum('tchw,thw->tc', maps[both], w[both]) / w[both].sum((1, 2))[:, None] for w in (inside, outside)
    )
    return F.triplet_margin_with_distance_loss(
        audio[both], near, far, distance_function=lambda a, b: 1 - F.cosine_similarity(a, b), margin=margin
    )
