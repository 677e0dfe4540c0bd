# SPDX-License-Identifier: Apache-2.0
"""Which positions of a picture match which sounds: dense supervision of the gates of early fusion."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn import functional as F

from ...datasets.transforms.loading import UNANNOTATED

UNKNOWN = -1


@MODELS.register_module()
class SoundMatchLoss(BaseModule):
    """Binary cross-entropy of the match of each position with the sounds of all frames of a batch.

    With its own frame's sound a position matches if it is labelled. With the sounds of other frames, of whatever clip,
    a labelled position matches where its name sounds, and does not where it does not; of a frame without annotation it
    is known only that names do not sound which its clip does not list. Positions of background, and sounds that
    :class:`MixClipAudio` has changed, are left out there. So the clips of a batch, and those that ``memory`` keeps of
    earlier ones, give negatives to each other, at the price of a product; the loss of a clip depends on them. The means
    over matching positions, over others with their own sound, and over others with other sounds count 1, 0.5 and 0.5.

    Args:
        loss_weight (float): weight in the sum of losses. Defaults to 10.
        memory (int): earlier clips whose audio tokens are kept, without gradients, for small batches. They are in no
            checkpoint: a training that goes on begins without. Defaults to 0.

    Raises:
        ValueError: a negative weight or number.
    """

    def __init__(self, loss_weight: float = 10.0, memory: int = 0) -> None:
        super().__init__()
        if loss_weight < 0 or memory < 0:
            raise ValueError(f'loss_weight and memory must not be negative, got {loss_weight} and {memory}')
        self.loss_weight, self.memory = loss_weight, deque(maxlen=memory)

    def forward(
        self,
        match: Callable[[Tensor, Tensor], Tensor],
        visual: Tensor,
        audio: Tensor,
        shapes: Sequence[tuple[int, int]],
        samples: Sequence[SegDataSample],
    ) -> Tensor:
        """Loss of B clips of T frames.

        Args:
            match (Callable): gives logits (M, A, L), see :meth:`GatedFusion.match`.
            visual (Tensor): (M, L, C) visual tokens of the M = B * T frames.
            audio (Tensor): (M, S, Da) audio tokens of the same frames.
            shapes (Sequence[tuple[int, int]]): sizes (h, w) of the maps of which the L positions are joined.
            samples (Sequence[SegDataSample]): B, with ``gt_sem_seg`` (T, H, W) and metainfo ``vocabulary`` and
                ``names``, which sound in the clip.

        Returns:
            Tensor: scalar.

        Raises:
            ValueError: a clip has a label of a name that it does not list, so what sounds in it is not known.
        """
        labels = torch.cat([position_labels(sample.gt_sem_seg.data, shapes) for sample in samples])  # (M, L)
        clips = [known_sounds(sample) for sample in samples]
        past_audio, past_sounds = zip(*self.memory, strict=True) if self.memory else ((), ())
        sounds = torch.cat([*clips, *past_sounds])  # (A, 256)
        logits = match(visual, torch.cat([audio, *past_audio]))
        self.memory.extend(zip(audio.detach().split([len(x) for x in clips]), clips, strict=True))
        wanted = sounds[:, labels].transpose(0, 1)  # (M, A, L)
        wanted[(labels == 0)[:, None].expand_as(wanted)] = UNKNOWN
        own = torch.eye(*logits.shape[:2], dtype=torch.bool, device=labels.device)
        wanted[own] = (labels > 0).long()
        wanted[(labels == UNANNOTATED)[:, None].expand_as(wanted)] = UNKNOWN
        loss = F.binary_cross_entropy_with_logits(logits, wanted.clamp(min=0).to(logits), reduction='none')
        own = own[..., None]
        parts = ((1.0, wanted == 1), (0.5, (wanted == 0) & own), (0.5, (wanted == 0) & ~own))
        total: Any = sum(weight * (loss * part).sum() / part.sum().clamp(min=1) for weight, part in parts)
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
        if wrong := set(present.tolist()) - {0, UNANNOTATED, *listed}:
            raise ValueError(
                f'clip {sample.get("clip_id", "?")} has the label {sample.vocabulary[min(wrong) - 1]!r}, which is '
                f'none of its names ({", ".join(sample.names)}): SoundMatchLoss tells sounds apart by names'
            )
        if (present == UNANNOTATED).all():
            row[listed] = UNKNOWN
        else:
            row[present] = 1
    return sounds
