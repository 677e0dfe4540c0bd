# SPDX-License-Identifier: Apache-2.0
"""Matching and losses of queries of single frames (OV2Seg, CLIP-VIS; paper Table 2)."""

from typing import Any

import torch
from torch import Tensor

from .video_criterion import VideoCriterion, VideoTargets, matches_to_labels, name_losses


class FrameCriterion(VideoCriterion):
    """Every annotated frame is an image that is matched by itself; losses are those of all images of a clip.

    Mask losses are divided by the number of targets of the clip, the loss of names by its number of queries in
    annotated frames. A clip without an annotated frame has losses of 0.

    Args:
        iou_weight (float): of the mean absolute error of predicted IoUs, over matched queries whose mask meets its
            target, where the head predicts them (CLIP-VIS). Their targets are measured on the points of the mask
            losses. Defaults to 2.0.
        **kwargs: see :class:`VideoCriterion`; ``loss_sound`` is that of (object, no object).
    """

    def __init__(self, iou_weight: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.iou_weight = iou_weight

    def forward(  # type: ignore[override]  # of frames, not of a clip
        self,
        sound_logits: Tensor,
        mask_embed: Tensor,
        pixel_embed: Tensor,
        targets: list[VideoTargets],
        name_logits: Tensor | None = None,
        ious: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Losses of the F annotated frames of a clip.

        Args:
            sound_logits (Tensor): (layers, F, Q, 2) of object and no object.
            mask_embed (Tensor): (layers, F, Q, C).
            pixel_embed (Tensor): (F, C, h4, w4).
            targets (list[VideoTargets]): of F frames, each with masks (K, 1, H, W).
            name_logits (Tensor, optional): (layers, F, Q, N) of the names of training. Defaults to None.
            ious (Tensor, optional): (layers, F, Q) in [0, 1]. Defaults to None.

        Returns:
            dict[str, Tensor]: ``loss_object``, ``loss_mask``, ``loss_dice``, and ``loss_name`` and ``loss_iou`` where
            there are such predictions: each (layers,).
        """
        sound_logits, mask_embed, pixel_embed = sound_logits.float(), mask_embed.float(), pixel_embed.float()
        if not targets:
            parts = dict(object=sound_logits, mask=mask_embed, dice=mask_embed, name=name_logits, iou=ious)
            return {f'loss_{k}': x.flatten(1).sum(1) + pixel_embed.sum() for k, x in parts.items() if x is not None}
        with torch.autocast(pixel_embed.device.type, enabled=False):
            matches = [
                self.match(sound_logits[:, i], mask_embed[:, i], pixel_embed[i : i + 1], target, _at(name_logits, i))
                for i, target in enumerate(targets)
            ]
            num_queries = sound_logits.shape[2]
            parts = [matches_to_labels(m, t.classes(1), 1, num_queries) for m, t in zip(matches, targets, strict=True)]
            labels = torch.cat(parts, 1)  # (layers, F * Q)
            pairs = zip(sound_logits.flatten(1, 2), labels, strict=True)
            losses: dict[str, Any] = dict(loss_object=torch.stack([self.loss_sound(*pair) for pair in pairs]))
            losses |= self._frame_mask_losses(mask_embed, pixel_embed, targets, matches, ious)
            if name_logits is not None:
                pairs = zip(name_logits.unbind(1), targets, matches, strict=True)
                found = [name_losses(*pair) for pair in pairs]
                losses['loss_name'] = self.name_weight * sum(found) / labels.shape[1]
        return losses

    def _frame_mask_losses(
        self, mask_embed: Tensor, pixel_embed: Tensor, targets: list[VideoTargets], matches: list, ious: Tensor | None
    ) -> dict[str, Tensor]:
        """``loss_mask``, ``loss_dice`` and, with predicted IoUs (layers, F, Q), ``loss_iou``, each (layers,)."""
        filled = [i for i, target in enumerate(targets) if len(target.masks)]
        if not filled:
            zero = mask_embed[:, :, :0].sum((1, 2, 3)) + pixel_embed[:0].sum()
            return dict(loss_mask=zero, loss_dice=zero) | ({} if ious is None else dict(loss_iou=0 * ious.sum((1, 2))))
        points = [self._sample(mask_embed[:, i], pixel_embed[i : i + 1], targets[i], matches[i]) for i in filled]
        pred, gt = (torch.cat(part, 1) for part in zip(*points, strict=True))  # (layers, K, P)
        mask, dice = self._point_losses(pred, gt, pred.shape[1])
        losses = dict(loss_mask=mask, loss_dice=dice)
        if ious is not None:
            chosen = [torch.stack([row[q] for row, (q, _) in zip(ious[:, i], matches[i], strict=True)]) for i in filled]
            losses['loss_iou'] = self.iou_weight * iou_losses(torch.cat(chosen, 1), pred, gt)
        return losses


def iou_losses(ious: Tensor, pred: Tensor, gt: Tensor) -> Tensor:
    """Mean absolute error (layers,) of IoUs (layers, K), where that of logits and labels (layers, K, P) is above 0."""
    with torch.no_grad():
        pred = (pred > 0).to(gt)
        union = (pred + gt - pred * gt).sum(-1)
        wanted = (pred * gt).sum(-1) / union.clamp(min=1e-6)
        met = (wanted > 0).to(gt)
    return ((ious - wanted).abs() * met).sum(1) / met.sum(1).clamp(min=1)


def _at(parts: Tensor | None, i: int) -> Tensor | None:
    """Image i of (layers, F, ...), if there are such predictions."""
    return None if parts is None else parts[:, i]
