# SPDX-License-Identifier: Apache-2.0
"""CLIP on square crops of masks (paper section 3.4, Table 5)."""

import torch
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from torch import Tensor

from ..layers.resize import resize_masks
from .open_vocabulary import OpenVocabularyClassifier
from .square_crop import ANCHORS, CROPS, crop_boxes, crop_squares

MASK_SIZES = ('image', 'padded')


@MODELS.register_module()
class CLIPSquareCropClassifier(OpenVocabularyClassifier):
    """Embeds a crop of each mask in each frame.

    Args:
        crop (str): what CLIP sees of a mask (paper Table 5): ``'square'`` around its box, ``'resize'``, the box
            stretched to CLIP's input, or ``'whole_frame'``; all but the mask is black. Defaults to 'square'.
        anchor (str): of the square, ``'center'`` or ``'corner'`` of the mask's box. Defaults to 'center'.
        mask_size (str): size of masks that are cropped, ``'image'`` without padding or ``'padded'``. Defaults to
            'image'.
        **kwargs: see :class:`OpenVocabularyClassifier`.

    Raises:
        ValueError: an unknown crop, anchor or mask size.
    """

    def __init__(
        self, crop: str = 'square', anchor: str = 'center', mask_size: str = 'image', **kwargs: object
    ) -> None:
        if crop not in CROPS or anchor not in ANCHORS or mask_size not in MASK_SIZES:
            raise ValueError(
                f'crop must be of {CROPS}, anchor of {ANCHORS}, mask_size of {MASK_SIZES}, '
                f'got {crop!r}, {anchor!r}, {mask_size!r}'
            )
        super().__init__(**kwargs)
        self.crop_kind, self.anchor, self.mask_size = crop, anchor, mask_size

    def embed_masks(self, frames: Tensor, queries: InstanceData, pad_shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Embed the crops of masks that have a pixel above 0.5, see the base class."""
        img_shape = None if self.mask_size == 'padded' else tuple(frames.shape[-2:])
        # a few queries at a time: masks at full size are by far the largest tensors of a test
        parts = queries.masks.split(max(1, self.chunk_size // len(frames)))
        valid, embeddings = [], []
        for part in parts:
            probabilities = resize_masks(part, pad_shape, img_shape).sigmoid()
            valid.append((probabilities > 0.5).flatten(2).any(-1))  # (s, T)
            query, frame = valid[-1].nonzero(as_tuple=True)
            if len(query):
                crops = self.crop(frames, frame, probabilities[query, frame])
                embeddings.append(self.encode(crops))
        embeddings = torch.cat(embeddings) if embeddings else self.encode(frames[:0])
        return embeddings, torch.cat(valid)

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
