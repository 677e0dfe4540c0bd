# SPDX-License-Identifier: Apache-2.0
"""Which positions of a picture match which sounds: dense supervision of the gates of early fusion."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn import functional as F

UNANNOTATED = 255
UNKNOWN = -1


@MODELS.register_module()
class SoundMatchLoss(BaseModule):
    """Binary cross-entropy of the match of each position with the sounds of all frames of a batch.

    With its own frame's sound a position matches if it is labelled. With the sounds of other frames, of whatever clip,
    a labelled position matches where its name sounds, and does not where it does not; of a frame without annotation it
    is known only that names do not sound which its clip does not list. Positions of background, and sounds that
    :class:`MixClipAudio` has changed, are left out there. So every clip of a batch gives negatives to all others, at
    the price of a product. The means over matching positions, over others with their own sound, and over others with
    other sounds count 1, 0.5 and 0.5.

    Args:
        loss_weight (float): weight in the sum of losses. Defaults to 10.

    Raises:
        ValueError: a negative weight.
    """

    def __init__(self, loss_weight: float = 10.0) -> None:
        super().__init__()
        if loss_weight < 0:
            raise ValueError(f'loss_weight must not be negative, got {loss_weight}')
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, shapes: Sequence[tuple[int, int]], samples: Sequence[SegDataSample]) -> Tensor:
        """Loss of B clips of T frames.

        Args:
            logits (Tensor): (M, M, L), positions of each of M = B * T frames with the sound of each.
            shapes (Sequence[tuple[int, int]]): sizes (h, w) of the maps of which the L positions are joined.
            samples (Sequence[SegDataSample]): B, with ``gt_sem_seg`` (T, H, W) and metainfo ``vocabulary`` and
                ``names``, which sound in the clip.

        Returns:
            Tensor: scalar.
        """
        labels = torch.cat([position_labels(sample.gt_sem_seg.data, shapes) for sample in samples])  # (M, L)
        sounds = torch.cat([known_sounds(sample) for sample in samples])  # (M, 256)
        wanted = sounds[:, labels].transpose(0, 1)  # (M, M, L)
        wanted[(labels == 0)[:, None].expand_as(wanted)] = UNKNOWN
        own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        wanted[own] = (labels > 0).long()
        wanted[(labels == UNANNOTATED)[:, None].expand_as(wanted)] = UNKNOWN
        loss = F.binary_cross_entropy_with_logits(logits, wanted.clamp(min=0).to(logits), reduction='none')
        own = own[..., None]
        parts = ((1.0, wanted == 1), (0.5, (wanted == 0) & own), (0.5, (wanted == 0) & ~own))
        total = sum(weight * (loss * part).sum() / part.sum().clamp(min=1) for weight, part in parts)
        return self.loss_weight * total


def position_labels(label_map: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
    """Labels (T, L) int64 at the positions of joined maps of some sizes, of (T, H, W)."""
    maps = label_map[:, None].float()
    return torch.cat([F.interpolate(maps, shape).flatten(1) for shape in shapes], 1).long()


def known_sounds(sample: SegDataSample) -> Tensor:
    """Whether each label sounds in each frame, (T, 256) int64: 1, 0, or UNKNOWN."""
    label_map = sample.gt_sem_seg.data
    sounds = torch.zeros(len(label_map), 256, dtype=torch.long, device=label_map.device)
    if sample.get('sound', 'own') != 'own':
        return sounds.fill_(UNKNOWN)
    listed = [i for i, name in enumerate(sample.vocabulary, 1) if name in sample.names]
    for frame, row in zip(label_map, sounds, strict=True):
        present = frame.unique().long()
        if (present == UNANNOTATED).all():
            row[listed] = UNKNOWN
        else:
            row[present] = 1
    return sounds
