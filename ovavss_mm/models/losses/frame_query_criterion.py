# SPDX-License-Identifier: Apache-2.0
"""Matching of the queries of single frames to what sounds in them, and their losses (CATR, paper Table 2)."""

from collections.abc import Sequence

import torch
from mmdet.registry import TASK_UTILS
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F


class FrameQueryCriterion(BaseModule):
    """Hungarian matching frame by frame at the size of the labels, and the losses of each layer, matched anew.

    Args:
        match_costs (Sequence[dict]): configs of mmdet's matching costs.
        loss_focal (dict): config of the focal loss of masks.
        loss_dice (dict): config of the dice loss.
        class_weight (float): weight of the cross-entropy of classes, summed over queries. Defaults to 1.0.
        no_object_weight (float): weight of a query without a target in it. Defaults to 0.1.
        bce_weight (float): weight of the binary cross-entropy of masks. Defaults to 4.0.
        double_sigmoid (bool): whether the binary cross-entropy takes the sigmoid of the sigmoid of a mask's logits, as
            published; else the sigmoid. Defaults to True.

    Raises:
        ValueError: a negative weight.
    """

    def __init__(
        self,
        match_costs: Sequence[dict],
        loss_focal: dict,
        loss_dice: dict,
        class_weight: float = 1.0,
        no_object_weight: float = 0.1,
        bce_weight: float = 4.0,
        double_sigmoid: bool = True,
    ) -> None:
        super().__init__()
        if min(class_weight, no_object_weight, bce_weight) < 0:
            raise ValueError(f'weights must not be negative, got {class_weight}, {no_object_weight} and {bce_weight}')
        self.match_costs = [TASK_UTILS.build(cost) for cost in match_costs]
        self.loss_focal, self.loss_dice = MODELS.build(loss_focal), MODELS.build(loss_dice)
        self.class_weight, self.no_object_weight, self.bce_weight = class_weight, no_object_weight, bce_weight
        self.double_sigmoid = double_sigmoid

    def forward(self, class_logits: Tensor, mask_logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses of A annotated frames, each (layers,).

        Args:
            class_logits (Tensor): (layers, A, Q, N + 1), 'no object' last; N = 1: sounding or not.
            mask_logits (Tensor): (layers, A, Q, h, w).
            labels (Tensor): (A, H, W) int64, 0 background, i + 1 name i, 255 unknown, which counts as background.

        Returns:
            dict[str, Tensor]: ``loss_cls`` over the number of frames, ``loss_focal``, ``loss_dice`` and ``loss_bce``
            over the number of targets, 0 without any.
        """
        # float32 also under autocast: costs are compared, losses are summed over thousands of pixels
        with torch.autocast(mask_logits.device.type, enabled=False):
            class_logits, mask_logits = class_logits.float(), mask_logits.float()
            targets = [frame_targets(frame, class_logits.shape[-1] - 1) for frame in labels]
            layers = [self._layer(*layer, targets) for layer in zip(class_logits, mask_logits, strict=True)]
        return {name: torch.stack([losses[name] for losses in layers]) for name in layers[0]}

    @torch.no_grad()
    def match(
        self, class_logits: Tensor, mask_logits: Tensor, targets: list[tuple[Tensor, Tensor]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Assign each target a query, in every frame of a layer.

        Args:
            class_logits (Tensor): (A, Q, N + 1).
            mask_logits (Tensor): (A, Q, h, w).
            targets (list[tuple[Tensor, Tensor]]): of :func:`frame_targets`.

        Returns:
            list[tuple[Tensor, Tensor]]: indices of queries and of targets of each frame, each (K,).
        """
        pairs = []
        for logits, masks, (classes, wanted) in zip(class_logits, mask_logits, targets, strict=True):
            masks = _enlarge(masks, wanted)
            # an overflow shows in the losses, where scaler and logger see it; the assignment would stop at it
            pred = InstanceData(scores=logits.nan_to_num(), masks=masks.nan_to_num(0, 1e4, -1e4).flatten(1))
            gt = InstanceData(labels=classes, masks=wanted.flatten(1))
            cost = sum(cost(pred, gt) for cost in self.match_costs)  # (Q, K)
            queries, found = (torch.from_numpy(x).to(logits.device) for x in linear_sum_assignment(cost.cpu()))
            pairs.append((queries, found))
        return pairs

    def _layer(self, class_logits: Tensor, mask_logits: Tensor, targets: list) -> dict[str, Tensor]:
        """Losses of a layer, scalars; the layer's logits as in :meth:`match`."""
        no_object = class_logits.shape[-1] - 1
        labels = torch.full(class_logits.shape[:2], no_object, device=class_logits.device)
        masks, wanted = [mask_logits[:0, 0]], []  # the first keeps masks in the graph if there is no target
        for i, (query, target) in enumerate(self.match(class_logits, mask_logits, targets)):
            labels[i, query] = targets[i][0][target]
            masks.append(mask_logits[i, query])
            wanted.append(targets[i][1][target])
        weight = class_logits.new_ones(no_object + 1)
        weight[-1] = self.no_object_weight
        loss = F.cross_entropy(class_logits.flatten(0, 1), labels.flatten(), weight, reduction='sum')
        losses = dict(loss_cls=self.class_weight * loss / max(len(labels), 1))
        masks = torch.cat(masks)  # (K, h, w) of all frames
        if len(masks) == 0:
            return losses | dict.fromkeys(('loss_focal', 'loss_dice', 'loss_bce'), masks.sum())
        wanted = torch.cat(wanted)
        masks, wanted = _enlarge(masks, wanted).flatten(1), wanted.flatten(1)  # (K, H * W)
        losses['loss_focal'] = self.loss_focal(masks, wanted, avg_factor=wanted.numel())
        losses['loss_dice'] = self.loss_dice(masks, wanted, avg_factor=len(wanted))
        masks = masks.sigmoid() if self.double_sigmoid else masks
        losses['loss_bce'] = self.bce_weight * F.binary_cross_entropy_with_logits(masks, wanted)
        return losses


def frame_targets(labels: Tensor, num_classes: int, ignore_index: int = 255) -> tuple[Tensor, Tensor]:
    """Targets of a frame.

    Args:
        labels (Tensor): (H, W) int64, 0 background, i + 1 name i.
        num_classes (int): N; 1: all that sounds is one target.
        ignore_index (int): label of unknown pixels, which count as background. Defaults to 255.

    Returns:
        tuple: classes (K,) int64 from 0, and masks (K, H, W) float32.

    Raises:
        ValueError: a name that the model does not have.
    """
    labels = labels.masked_fill(labels == ignore_index, 0)
    if num_classes == 1:
        labels = (labels > 0).long()
    found = labels.unique()
    found = found[found > 0]
    if len(found) and found[-1] > num_classes:
        raise ValueError(
            f'a label map has name {int(found[-1]) - 1} of the vocabulary (from 0), the head tells {num_classes} names '
            'apart: decode_head.num_classes must be the size of the vocabulary'
        )
    return found - 1, (labels == found[:, None, None]).float()


def _enlarge(masks: Tensor, like: Tensor) -> Tensor:
    """Logits (K, h, w) at the height and width of others."""
    return F.interpolate(masks[None], like.shape[-2:], mode='bilinear', align_corners=False)[0]
