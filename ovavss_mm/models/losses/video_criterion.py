# SPDX-License-Identifier: Apache-2.0
"""Matching of queries to a clip's sounding objects, and the losses of matched queries (paper section 3.5)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from mmcv.ops import point_sample
from mmdet.models.utils import get_uncertain_point_coords_with_randomness
from mmdet.registry import TASK_UTILS
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from ..layers.frame_scores import FrameScore

CACHED_QUERIES = 16  # whose costs are computed at a time on a CPU (see docs/benchmarks.md)


class VideoTargets(NamedTuple):
    """The ground truth of a clip's queries.

    Attributes:
        masks (Tensor): (K, F, H, W) bool, the K sounding names in the F annotated frames, at the padded input size.
        frames (Tensor): (F,) int64 indices of the annotated frames.
        labels (Tensor, optional): (K,) int64, the names' places in the vocabulary; only closed-set heads need them.
        names (Tensor, optional): (K,) int64, the names' places among those of training; heads of text embeddings.
    """

    masks: Tensor
    frames: Tensor
    labels: Tensor | None = None
    names: Tensor | None = None

    @classmethod
    def from_label_map(cls, label_map: Tensor, ignore_index: int = 255) -> 'VideoTargets':
        """Targets of a clip: one a name that sounds in any annotated frame.

        Args:
            label_map (Tensor): (T, H, W) integer, 0 background; a frame of only ``ignore_index`` is not annotated.
            ignore_index (int): label of pixels without annotation. Defaults to 255.
        """
        annotated = (label_map != ignore_index).flatten(1).any(1).nonzero()[:, 0]
        label_map = label_map[annotated]
        labels = label_map.unique()
        labels = labels[(labels != 0) & (labels != ignore_index)]
        masks = label_map[None] == labels[:, None, None, None]
        return cls(masks, annotated, labels.long() - 1)

    def name(self, columns: Tensor | None) -> 'VideoTargets':
        """With the names of training, of which ``columns`` (N,) int64 are the places, -1 none; None: as they are.

        Raises:
            ValueError: a target's name is not one of training.
        """
        if columns is None:
            return self
        names = columns[self.labels]
        if (names < 0).any():
            wrong = int(self.labels[names < 0][0])
            raise ValueError(f'a target is name {wrong} of the vocabulary (from 0), which is no base name')
        return self._replace(names=names)

    def classes(self, num_classes: int) -> Tensor:
        """Class of each target, (K,) int64: always 0 for a head of one class.

        Raises:
            ValueError: a name that the head does not have.
        """
        if num_classes == 1:
            return torch.zeros(len(self.masks), dtype=torch.long, device=self.masks.device)
        if len(self.masks) and self.labels.max() >= num_classes:
            raise ValueError(
                f'a target is name {int(self.labels.max())} of the vocabulary (from 0), the head tells {num_classes} '
                'names apart: decode_head.num_classes must be the size of the vocabulary'
            )
        return self.labels


class VideoCriterion(BaseModule):
    """Hungarian matching and mask losses on random points; all of a clip's layers at once.

    Every clip is normalised by its own number of targets and a batch is the mean over its clips: what a clip
    contributes depends neither on its batch nor on the number of processes.

    Args:
        match_costs (Sequence[dict]): configs of mmdet's matching costs; scipy's Hungarian algorithm minimises their
            sum.
        loss_sound (dict): config of the loss of (sounding, no object).
        loss_mask (dict): config of the point-wise mask loss.
        loss_dice (dict): config of the dice loss.
        num_points (int): points per frame in matching and in each target's losses. Defaults to 12544.
        oversample_ratio (float): candidates per chosen point. Defaults to 3.0.
        importance_sample_ratio (float): share of points taken where the prediction is least certain. Defaults to 0.75.
        name_weight (float): of the binary cross-entropy of matched queries' names, summed over names and divided by
            the number of queries, where the head has text embeddings (OV2Seg). Defaults to 3.4.

    Raises:
        ValueError: a ratio or number out of range.
    """

    def __init__(
        self,
        match_costs: Sequence[dict],
        loss_sound: dict,
        loss_mask: dict,
        loss_dice: dict,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_sample_ratio: float = 0.75,
        name_weight: float = 3.4,
    ) -> None:
        super().__init__()
        if num_points < 1 or oversample_ratio < 1 or not 0 <= importance_sample_ratio <= 1:
            raise ValueError(
                'num_points and oversample_ratio must be at least 1, importance_sample_ratio in [0, 1], '
                f'got {num_points}, {oversample_ratio}, {importance_sample_ratio}'
            )
        self.match_costs = [TASK_UTILS.build(cost) for cost in match_costs]
        self.needs_names = any(getattr(cost, 'needs_names', False) for cost in self.match_costs)
        self.loss_sound = MODELS.build(loss_sound)
        self.loss_mask = MODELS.build(loss_mask)
        self.loss_dice = MODELS.build(loss_dice)
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_sample_ratio = importance_sample_ratio
        self.name_weight = name_weight

    def forward(
        self,
        sound_logits: Tensor,
        mask_embed: Tensor,
        pixel_embed: Tensor,
        targets: VideoTargets,
        name_logits: Tensor | None = None,
        frame_scores: Sequence[tuple[FrameScore, Tensor]] = (),
    ) -> dict[str, Tensor]:
        """Losses of one clip.

        Args:
            sound_logits (Tensor): (layers, Q, 2), or (layers, Q, N + 1) of a closed-set head; 'no object' comes last.
            mask_embed (Tensor): (layers, Q, C); times ``pixel_embed`` they are the mask logits.
            pixel_embed (Tensor): (T, C, h4, w4) per-pixel embeddings at stride 4.
            targets (VideoTargets): the ground truth.
            name_logits (Tensor, optional): (layers, Q, N) of the names of training. Defaults to None.
            frame_scores (Sequence[tuple[FrameScore, Tensor]]): scores of frames with their logits, (layers, Q or 1, T).
                Defaults to none.

        Returns:
            dict[str, Tensor]: ``loss_sound``, ``loss_mask``, ``loss_dice``, with names ``loss_name``, and those of the
            scores of frames: each (layers,).
        """
        # float32 also under autocast: costs are compared, losses are summed over thousands of points
        sound_logits, mask_embed = sound_logits.float(), mask_embed.float()
        pixel_embed = pixel_embed.float()
        with torch.autocast(pixel_embed.device.type, enabled=False):
            if len(targets.frames) < len(pixel_embed):
                pixel_embed = pixel_embed[targets.frames]  # (F, C, h4, w4)
            matches = self.match(sound_logits, mask_embed, pixel_embed, targets, name_logits)
            num_classes = sound_logits.shape[-1] - 1
            labels = matches_to_labels(matches, targets.classes(num_classes), num_classes, sound_logits.shape[1])
            losses = dict(
                loss_sound=torch.stack([self.loss_sound(*pair) for pair in zip(sound_logits, labels, strict=True)])
            )
            losses['loss_mask'], losses['loss_dice'] = self._mask_losses(mask_embed, pixel_embed, targets, matches)
            sounds = targets.masks.flatten(2).any(-1)  # (K, F)
            for score, logits in frame_scores:
                losses[score.loss_name] = score.loss(logits.float()[..., targets.frames], sounds, matches)
            if name_logits is not None:
                losses['loss_name'] = self.name_weight * name_losses(name_logits, targets, matches) / labels.shape[1]
        return losses

    @torch.no_grad()
    def match(
        self,
        sound_logits: Tensor,
        mask_embed: Tensor,
        pixel_embed: Tensor,
        targets: VideoTargets,
        name_logits: Tensor | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """Assign each target a query, in every layer.

        Points are the same for all frames, queries and layers, so pixels are sampled before they meet the
        queries: sampling is linear.

        Args:
            sound_logits (Tensor): (layers, Q, num_classes + 1).
            mask_embed (Tensor): (layers, Q, C).
            pixel_embed (Tensor): (F, C, h4, w4) of the annotated frames.
            targets (VideoTargets): K targets.
            name_logits (Tensor, optional): (layers, Q, N). Defaults to None.

        Returns:
            list[tuple[Tensor, Tensor]]: per layer, query indices and target indices, each (K,), in order of targets.
        """
        num_targets = len(targets.masks)
        if num_targets == 0:
            none = torch.zeros(0, dtype=torch.long, device=pixel_embed.device)
            return [(none, none)] * len(mask_embed)
        points = torch.rand(1, self.num_points, 2, device=pixel_embed.device)
        gt = InstanceData(
            labels=targets.classes(sound_logits.shape[-1] - 1),
            # (K, F, P) -> (K, F * P)
            masks=point_sample(targets.masks.float(), points.expand(num_targets, -1, -1)).flatten(1),
        )
        if name_logits is None:
            name_logits = sound_logits[..., :0]
        else:
            gt.names = targets.names
        pixels = point_sample(pixel_embed, points.expand(len(pixel_embed), -1, -1))
        pixels = pixels.transpose(0, 1).flatten(1)  # (F, C, P) -> (C, F * P)
        rows = CACHED_QUERIES if pixels.device.type == 'cpu' else mask_embed.shape[1]
        costs = []
        for scores, embed, names in zip(sound_logits, mask_embed, name_logits, strict=True):
            masks = embed @ pixels  # (Q, F * P)
            parts = zip(scores.split(rows), masks.split(rows), names.split(rows), strict=True)
            costs.append(torch.cat([self._cost(*part, gt) for part in parts]))
        # one transfer for all layers
        pairs = [linear_sum_assignment(cost) for cost in torch.stack(costs).cpu()]
        # in order of targets
        pairs = [(query[target.argsort()], np.sort(target)) for query, target in pairs]
        # (layers, 2, K), in one transfer
        return [tuple(pair) for pair in torch.from_numpy(np.stack(pairs)).to(pixels.device, non_blocking=True)]

    def _cost(self, scores: Tensor, masks: Tensor, names: Tensor, gt: InstanceData) -> Tensor:
        """Matching costs (q, K) of sound logits (q, num_classes + 1), mask logits (q, F * P), name logits (q, N)."""
        # an overflow shows in the losses, where scaler and logger see it; the assignment would stop at it
        pred = InstanceData(
            scores=scores.nan_to_num(), masks=masks.nan_to_num(0, 1e4, -1e4), name_logits=names.nan_to_num()
        )
        return sum(cost(pred, gt) for cost in self.match_costs)

    def _mask_losses(
        self, mask_embed: Tensor, pixel_embed: Tensor, targets: VideoTargets, matches: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Mask and dice loss, each (layers,): summed over a target's frames, divided by K."""
        if len(targets.masks) == 0:
            # keeps every parameter in the graph; of no elements, as infinity times 0 is not 0
            zero = mask_embed[:, :0].sum((1, 2)) + pixel_embed[:0].sum()
            return zero, zero
        return self._point_losses(*self._sample(mask_embed, pixel_embed, targets, matches), len(targets.masks))

    def _sample(
        self, mask_embed: Tensor, pixel_embed: Tensor, targets: VideoTargets, matches: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Mask logits and labels of K >= 1 targets in uncertain points, each (layers, K * F, P)."""
        num_layers = len(mask_embed)
        embed = torch.stack([e[queries] for e, (queries, _) in zip(mask_embed, matches, strict=True)])
        # (F, layers * K, h4 * w4) -> (layers * K * F, 1, h4, w4), of a product that copies no pixels
        pred = (embed.flatten(0, 1) @ pixel_embed.flatten(2)).transpose(0, 1).flatten(0, 1)
        pred = pred.unflatten(1, (1, *pixel_embed.shape[-2:]))
        with torch.no_grad():
            points = get_uncertain_point_coords_with_randomness(
                pred, None, self.num_points, self.oversample_ratio, self.importance_sample_ratio
            )
            # a layer at a time: masks are at full size
            gt_points = torch.stack(
                [
                    # (K, F, H, W) -> (K * F, 1, H, W) -> (K * F, P)
                    point_sample(targets.masks[index].flatten(0, 1)[:, None].float(), where)[:, 0]
                    for (_, index), where in zip(matches, points.chunk(num_layers), strict=True)
                ]
            )
        # (layers * K * F, 1, P) -> (layers, K * F, P)
        return point_sample(pred, points).view(num_layers, -1, self.num_points), gt_points

    def _point_losses(self, pred: Tensor, gt: Tensor, num_targets: int) -> tuple[Tensor, Tensor]:
        """Mask and dice loss, each (layers,), of logits and labels (layers, M, P) of K targets."""
        pairs = list(zip(pred, gt, strict=True))
        mask = [self.loss_mask(p.flatten(), g.flatten(), avg_factor=num_targets * self.num_points) for p, g in pairs]
        dice = [self.loss_dice(p, g, avg_factor=num_targets) for p, g in pairs]
        return torch.stack(mask), torch.stack(dice)


def name_losses(name_logits: Tensor, targets: VideoTargets, matches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Binary cross-entropy of the names of matched queries, (layers,), summed over queries and names (layers, Q, N)."""
    losses = []
    for logits, (queries, index) in zip(name_logits, matches, strict=True):
        wanted = F.one_hot(targets.names[index], logits.shape[-1]).to(logits)
        losses.append(F.binary_cross_entropy_with_logits(logits[queries], wanted, reduction='sum'))
    return torch.stack(losses)


def matches_to_labels(
    matches: list[tuple[Tensor, Tensor]], classes: Tensor, no_object: int, num_queries: int
) -> Tensor:
    """Label of each query in each layer.

    Args:
        matches (list[tuple[Tensor, Tensor]]): per layer, query indices and target indices.
        classes (Tensor): (K,) int64 of the targets.
        no_object (int): label of queries without a target.
        num_queries (int): Q.

    Returns:
        Tensor: (layers, Q) int64.
    """
    size = (len(matches), num_queries)
    labels = torch.full(size, no_object, dtype=torch.long, device=classes.device)
    for layer, (queries, index) in enumerate(matches):
        labels[layer, queries] = classes[index]
    return labels
