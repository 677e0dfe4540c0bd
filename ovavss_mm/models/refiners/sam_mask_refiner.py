# SPDX-License-Identifier: Apache-2.0
"""Sharper masks of queries by SAM."""

import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ..layers.resize import resize_masks
from ..layers.sounding import sounding

CHUNK = 8  # masks of a frame that are refined together: at full size they are large


@MODELS.register_module()
class SAMMaskRefiner(BaseModule):
    """Gives SAM the box of a mask and the mask itself in a low resolution, and takes the mask that it draws.

    It does so for queries that sound, in each frame in which their mask has a pixel above 0.5; other queries are left
    out, so that finer masks need no more memory. A frame is embedded once, and only where there is such a mask. Masks
    come at the size of the padded input, where those that stay are exactly what they would be without it.

    Args:
        masker (dict): config of a model that segments what boxes and rough masks point at, such as
            ``dict(type='BoxMasker', ...)``.
        sound_thr (float): queries whose sound score is above this are refined, others are left out: no more than that
            of the classifier. Defaults to 0.5.
        margin (float): by which the box of a mask grows on each side, as a share of its width and height. Defaults to
            0.
        min_iou (float): a mask stays as it is in a frame where its IoU with the new one is below this: SAM has drawn
            something else. Defaults to 0.5.
        reach (float): how far a new mask may go beyond the box of the old one on each side, as a share of its width and
            height: a speck far away would change the crop that names the query. Defaults to 0.1.
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
        reach: float = 0.1,
        max_logit: float = 32.0,
    ) -> None:
        super().__init__()
        if not (0 <= sound_thr <= 1 and 0 <= min_iou <= 1) or min(margin, reach) < 0 or max_logit <= 0:
            raise ValueError(
                'sound_thr and min_iou must be in [0, 1], margin and reach at least 0 and max_logit above 0, got '
                f'{sound_thr}, {min_iou}, {margin}, {reach} and {max_logit}'
            )
        self.sound_thr, self.margin, self.min_iou, self.max_logit = sound_thr, margin, min_iou, max_logit
        self.reach, self.masker = reach, MODELS.build(masker)

    @torch.no_grad()
    def forward(self, frames: Tensor, queries: InstanceData, pad_shape: tuple[int, int]) -> InstanceData:
        """Refine the masks of the sounding queries of one clip.

        Args:
            frames (Tensor): (T, 3, h, w) uint8 RGB at the input size, without padding.
            queries (InstanceData): ``scores`` (Q,) in [0, 1] and ``masks`` (Q, T, h4, w4) logits over the padded input.
            pad_shape (tuple[int, int]): size of the padded input in pixels.

        Returns:
            InstanceData: the S queries that sound, with ``masks`` (S, T, H, W) logits at the size of the padded input.
        """
        queries = sounding(queries, self.sound_thr)
        masks = resize_masks(queries.masks, pad_shape)  # (S, T, H, W)
        may_have = (queries.masks > 0).flatten(2).any(-1)  # (S, T)
        for t in may_have.any(0).nonzero()[:, 0].tolist():
            embedding = None
            for part in may_have[:, t].nonzero()[:, 0].split(CHUNK):
                old = masks[part, t, : frames.shape[2], : frames.shape[3]]
                inside = (old > 0).flatten(1).any(1)
                part, old = part[inside], old[inside]
                if len(part):
                    embedding = self.masker.embed(frames[t, None])[0] if embedding is None else embedding
                    new, is_good = self.refine(embedding, old)
                    masks[part[is_good], t] = _padded(new[is_good], pad_shape)
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
        prompts, inside, size = masks.clamp(-self.max_logit, self.max_logit), masks > 0, tuple(masks.shape[-2:])
        new, _ = self.masker(embedding, mask_boxes(inside, self.margin), size, masks=prompts)
        new = torch.where(in_boxes(mask_boxes(inside, self.reach), size), new, masks)
        both = ((new > 0) & (masks > 0)).flatten(1).sum(1)
        either = ((new > 0) | (masks > 0)).flatten(1).sum(1)
        return new, both >= self.min_iou * either


def mask_boxes(inside: Tensor, margin: float) -> Tensor:
    """Boxes of masks.

    Args:
        inside (Tensor): bool (M, h, w), each with a pixel.
        margin (float): by which they grow on each side, as a share of their width and height; within the frame.

    Returns:
        Tensor: (M, 4) float32, left, top, right, bottom in pixels, outer borders.
    """
    sides = []
    for axis, length in ((1, inside.shape[2]), (2, inside.shape[1])):
        seen = inside.any(axis).float()  # (M, w), then (M, h)
        low, high = seen.argmax(1), length - seen.flip(1).argmax(1)
        grow = margin * (high - low)
        sides.append(((low - grow).clamp(min=0), (high + grow).clamp(max=length)))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], 1).float()


def in_boxes(boxes: Tensor, size: tuple[int, ...]) -> Tensor:
    """Which pixels of (h, w) have their centre in each of the boxes (M, 4): bool (M, h, w)."""
    left, top, right, bottom = boxes[:, :, None].unbind(1)  # (M, 1) each
    rows, columns = (torch.arange(length, device=boxes.device) + 0.5 for length in size)
    rows, columns = (rows > top) & (rows < bottom), (columns > left) & (columns < right)
    return rows[:, :, None] & columns[:, None]


def _padded(masks: Tensor, pad_shape: tuple[int, int]) -> Tensor:
    """Logits (M, h, w) over the padded input (M, H, W); edges go on in the padding, so resizing keeps them sharp."""
    height, width = masks.shape[-2:]
    return F.pad(masks[:, None], (0, pad_shape[1] - width, 0, pad_shape[0] - height), mode='replicate')[:, 0]
