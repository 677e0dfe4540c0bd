# SPDX-License-Identifier: Apache-2.0
"""CLIP on square crops of masks (paper section 3.4, Table 5)."""

from typing import Any

import torch
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from torch import Tensor

from ..layers.resize import resize_masks
from .open_vocabulary import OpenVocabularyClassifier
from .square_crop import ANCHORS, CROPS, crop_boxes, crop_squares

MASK_SIZES = ('image', 'padded')
WHICH = ('all', 'best')


@MODELS.register_module()
class CLIPSquareCropClassifier(OpenVocabularyClassifier):
    """Embeds a crop of each mask in each frame.

    Args:
        crop (str): what CLIP sees of a mask (paper Table 5): ``'square'`` around its box, ``'resize'``, the box
            stretched to CLIP's input, or ``'whole_frame'``; all but the mask is black. Defaults to 'square'.
        anchor (str): of the square, ``'center'`` or ``'corner'`` of the mask's box. Defaults to 'center'.
        mask_size (str): size of masks that are cropped, ``'image'`` without padding or ``'padded'``. Defaults to
            'image'.
        crops (str): ``'all'``, a query is named by all frames where it has a mask, or ``'best'``, by the ``num_best``
            of them in which the area of its mask (pixels above 0.5) times the mean probability there is greatest, the
            earlier one of equals: a fraction of the crops. Defaults to 'all'.
        num_best (int): frames of ``'best'``. Defaults to 1.
        **kwargs: see :class:`OpenVocabularyClassifier`.

    Raises:
        ValueError: an unknown crop, anchor, mask size or choice of crops; ``num_best`` under 1.
    """

    def __init__(
        self,
        crop: str = 'square',
        anchor: str = 'center',
        mask_size: str = 'image',
        crops: str = 'all',
        num_best: int = 1,
        **kwargs: Any,
    ) -> None:
        if crop not in CROPS or anchor not in ANCHORS or mask_size not in MASK_SIZES:
            raise ValueError(
                f'crop must be of {CROPS}, anchor of {ANCHORS}, mask_size of {MASK_SIZES}, '
                f'got {crop!r}, {anchor!r}, {mask_size!r}'
            )
        if crops not in WHICH or num_best < 1:
            raise ValueError(f'crops must be of {WHICH}, num_best at least 1, got {crops!r} and {num_best}')
        super().__init__(**kwargs)
        self.crop_kind, self.anchor, self.mask_size = crop, anchor, mask_size
        self.num_best = num_best if crops == 'best' else None

    def embed_masks(self, frames: Tensor, queries: InstanceData, pad_shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Embed the crops of masks that have a pixel above 0.5, see the base class."""
        img_shape = None if self.mask_size == 'padded' else tuple(frames.shape[-2:])
        # a few queries at a time: masks at full size are by far the largest tensors of a test
        parts = queries.masks.split(max(1, self.chunk_size // len(frames)))
        valid, embeddings = [], []
        for part in parts:
            probabilities = resize_masks(part, pad_shape, img_shape).sigmoid()
            valid.append(self.choose_frames(probabilities))
            query, frame = valid[-1].nonzero(as_tuple=True)
            if len(query):
                embeddings.append(self.embed_crops(frames, frame, probabilities[query, frame]))
        embeddings = torch.cat(embeddings) if embeddings else self.encode(frames[:0])
        return embeddings, torch.cat(valid)

    def choose_frames(self, masks: Tensor) -> Tensor:
        """Which frames name a query, (S, T) bool, of masks (S, T, H, W), probabilities."""
        inside = masks > 0.5
        valid = inside.flatten(2).any(-1)
        if self.num_best is None or self.num_best >= valid.shape[1]:
            return valid
        weight = (masks * inside).flatten(2).sum(-1)  # area times mean probability
        order = weight.argsort(dim=1, descending=True, stable=True)[:, : self.num_best]
        return valid & torch.zeros_like(valid).scatter_(1, order, True)

    def embed_crops(self, frames: Tensor, frame_inds: Tensor, masks: Tensor) -> Tensor:
        """Embed what is cropped, see :meth:`crop`: (M, D) float32, of length 1."""
        return self.encode(self.crop(frames, frame_inds, masks))

    def crop(self, frames: Tensor, frame_inds: Tensor, masks: Tensor) -> Tensor:
        """Crop masked objects.

        Args:
            frames (Tensor): (T, 3, h, w) uint8 RGB.
            frame_inds (Tensor): (M,) int64, the frame of each mask.
            masks (Tensor): (M, H, W) probabilities, each with a pixel above 0.5.

        Returns:
            Tensor: (M, 3, image_size, image_size) float32, 0..255.
        """
        boxes = crop_boxes(masks > 0.5, self.crop_kind, self.anchor, tuple(frames.shape[-2:]))
        return crop_squares(frames, frame_inds, masks, boxes, self.image_size)
