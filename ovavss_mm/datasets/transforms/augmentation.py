# SPDX-License-Identifier: Apache-2.0
"""Crops and affine maps, the same for all frames of a clip, as closed-set models are trained with (paper Table 2)."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS
from torchvision.transforms import RandomAffine
from torchvision.transforms import functional as F


@TRANSFORMS.register_module()
class CropClip(BaseTransform):
    """Cut a square out of the frames, uint8 (T, H, W, 3), and of gt_seg_maps, (T, H, W) (optional); set img_shape.

    Args:
        size (int): of the square, in pixels; sides that are shorter stay as they are.
        random (bool): anywhere; else in the middle. Defaults to False.

    Raises:
        ValueError: a size under 1.
    """

    def __init__(self, size: int, random: bool = False) -> None:
        if size < 1:
            raise ValueError(f'size must be at least 1, got {size}')
        self.size, self.random = size, random

    def transform(self, results: dict) -> dict:
        """Crop imgs and gt_seg_maps."""
        slices = []
        for side in results['imgs'].shape[1:3]:
            room = max(0, side - self.size)
            start = np.random.randint(room + 1) if self.random else round(room / 2)
            slices.append(slice(start, start + self.size))
        for key in {'imgs', 'gt_seg_maps'} & results.keys():
            results[key] = np.ascontiguousarray(results[key][:, slices[0], slices[1]])
        results['img_shape'] = results['imgs'].shape[1:3]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, random={self.random})'


@TRANSFORMS.register_module()
class AffineClip(BaseTransform):
    """Rotate, scale and shear imgs, uint8 (T, H, W, 3), and gt_seg_maps, (T, H, W) (optional), by nearest neighbour.

    What comes in from outside is black, and background in annotated frames.

    Args:
        degrees (float): rotation is from minus this to this. Defaults to 20.
        scale (tuple[float, float]): least and greatest scale. Defaults to (0.5, 1.0).
        shear (float): in degrees, as rotation, along x. Defaults to 10.
    """

    def __init__(self, degrees: float = 20, scale: tuple[float, float] = (0.5, 1.0), shear: float = 10) -> None:
        self.affine = RandomAffine(degrees, scale=tuple(scale), shear=shear)  # checks the values

    def transform(self, results: dict) -> dict:
        """Map imgs and gt_seg_maps."""
        imgs = torch.from_numpy(results['imgs']).permute(0, 3, 1, 2)  # (T, 3, H, W)
        affine = self.affine
        params = affine.get_params(affine.degrees, None, affine.scale, affine.shear, list(imgs.shape[:1:-1]))
        results['imgs'] = np.ascontiguousarray(F.affine(imgs, *params).permute(0, 2, 3, 1).numpy())
        if 'gt_seg_maps' in results:
            labels = torch.from_numpy(results['gt_seg_maps'])
            moved = F.affine(labels, *params)
            unknown = (labels == 255).flatten(1).all(1)
            moved[unknown] = 255  # frames without annotation have none at their borders either
            results['gt_seg_maps'] = moved.numpy()
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.affine})'
