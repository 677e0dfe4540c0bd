# SPDX-License-Identifier: Apache-2.0
"""Sharper masks of queries by SAM."""

import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ..layers.resize import resize_masks

CHUNK = 8  # masks of a frame that are refined together: at full size they are large


@MODELS.register_module()
class SAMMaskRefiner(BaseModule):
    """Gives SAM the box of a mask and the mask itself in a low resolution, and takes the mask that it draws.

    It does so for queries that sound, in each frame in which their mask has a pixel above 0.5; other queries are left
    out, so that finer masks need no more memory. A frame is embedded once, and only where there is such a mask. Masks
    come at half the size of the padded input, with or without a change: those that it keeps are resized.

    Args:
        masker (dict): config of a model that segments what boxes and rough masks point at, such as
            ``dict(type='BoxMasker', ...)``.
        sound_thr (float): queries whose sound score is above this are refined, others are left out: no more than that
            of the classifier. Defaults to 0.5.
        margin (float): by which the box of a mask grows on each side, as a share of its width and height. Defaults to
            0.
        min_iou (float): a mask stays as it is in a frame where its IoU with the new one is below this: SAM has drawn
            something else. Defaults to 0.5.
        after_naming (bool): whether queries are named by the masks that they have, and drawn anew then; a classifier
            that is used to soft edges may name sharp ones worse. Defaults to False.
        max_logit (float): logits of the mask that SAM sees are clipped to this and its negative. Defaults to 32, as
            where SAM refines masks of its own.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(
        self,
        masker: dict,
        sound_thr: float = 0.5,
        margin: float = 0.0,
        min_iou: float = 0.5,
        after_naming: bool = False,
        max_logit: float = 32.0,
    ) -> None:
        super().__init__()
        if not (0 <= sound_thr <= 1 and 0 <= min_iou <= 1) or margin < 0 or max_logit <= 0:
            raise ValueError(
                'sound_thr and min_iou must be in [0, 1], margin at least 0 and max_logit above 0, got '
                f'{sound_thr}, {min_iou}, {margin} and {max_logit}'
            )
        self.sound_thr, self.margin, self.min_iou, self.max_logit = sound_thr, margin, min_iou, max_logit
        self.after_naming, self.masker = after_naming, MODELS.build(masker)

    @torch.no_grad()
    def forward(self, frames: Tensor, queries: InstanceData, pad_shape: tuple[int, int]) -> InstanceData:
        """Refine the masks of the sounding queries of one clip.

        Args:
            frames (Tensor): (T, 3, h, w) uint8 RGB at the input size, without padding.
            queries (InstanceData): ``scores`` (Q,) in [0, 1] and ``masks`` (Q, T, h4, w4) logits over the padded input.
            pad_shape (tuple[int, int]): size of the padded input in pixels.

        Returns:
            InstanceData: the S queries that sound, with ``masks`` (S, T, h2, w2) logits over half the padded input.
        """
        queries = queries[queries.scores > self.sound_thr]
        size = tuple(-(-side // 2) for side in pad_shape)
        masks = resize_masks(queries.masks, size)  # (S, T, h2, w2)
        may_have = (queries.masks > 0).flatten(2).any(-1)  # (S, T)
        for t in may_have.any(0).nonzero()[:, 0].tolist():
            embedding = None
            for part in may_have[:, t].nonzero()[:, 0].split(CHUNK):
                old = resize_masks(queries.masks[part, t, None], pad_shape, tuple(frames.shape[-2:]))[:, 0]
                inside = (old > 0).flatten(1).any(1)
                part, old = part[inside], old[inside]
                if len(part):
                    embedding = self.masker.embed(frames[t, None])[0] if embedding is None else embedding
                    new, is_good = self.refine(embedding, old)
                    masks[part[is_good], t] = _on_plane(new[is_good], pad_shape, size)
        queries.masks = masks
        return queries

    def refine(self, embedding: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Masks of one frame drawn anew.

        Args:
            embedding (Tensor): of the frame.
            masks (Tensor): (M, h, w) logits, each with a positive pixel.

        Returns:
            tuple: logits (M, h, w), and which of them (M,) are near enough to what they were.
        """
        prompts = masks.clamp(-self.max_logit, self.max_logit)
        new, _ = self.masker(embedding, self._boxes(masks > 0), tuple(masks.shape[-2:]), masks=prompts)
        both = ((new > 0) & (masks > 0)).flatten(1).sum(1)
        either = ((new > 0) | (masks > 0)).flatten(1).sum(1)
        return new, both >= self.min_iou * either

    def _boxes(self, inside: Tensor) -> Tensor:
        """Boxes (M, 4) x1, y1, x2, y2 in pixels, outer borders, of (M, h, w) bool, with a margin."""
        sides = []
        for axis, length in ((1, inside.shape[2]), (2, inside.shape[1])):
            seen = inside.any(axis).float()  # (M, w), then (M, h)
            low, high = seen.argmax(1), length - seen.flip(1).argmax(1)
            grow = self.margin * (high - low)
            sides.append(((low - grow).clamp(min=0), (high + grow).clamp(max=length)))
        (left, right), (top, bottom) = sides
        return torch.stack([left, top, right, bottom], 1).float()


def _on_plane(masks: Tensor, pad_shape: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Logits (M, h, w) over the padded input at another size; the edge goes on in the padding, so it stays sharp."""
    (height, width), masks = masks.shape[-2:], masks[:, None]
    masks = F.pad(masks, (0, pad_shape[1] - width, 0, pad_shape[0] - height), mode='replicate')
    return resize_masks(masks, size)[:, 0]
