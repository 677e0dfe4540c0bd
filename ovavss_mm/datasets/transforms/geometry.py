# SPDX-License-Identifier: Apache-2.0
"""Size and orientation, the same for all frames of a clip."""

import sys
from collections.abc import Sequence

import mmcv
import numpy as np
from mmcv.transforms import RandomFlip
from mmseg.datasets.transforms import ResizeShortestEdge
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeClip(ResizeShortestEdge):
    """Resize the short side of the frames to a length, with the aspect ratio kept.

    Resizes imgs, uint8 (T, H, W, 3), bilinearly and gt_seg_maps, uint8 (T, H, W) (optional), by nearest neighbour; sets
    img_shape, (H, W), and scale_factor, (width, height) new / old.

    Args:
        short_side (int | Sequence[int]): length in pixels, or several of which one is drawn a clip.
        max_size (int, optional): the long side is not made longer than this; the short side is then shorter. Defaults
            to None: no limit.
    """

    def __init__(self, short_side: int | Sequence[int], max_size: int | None = None):
        sides = (short_side,) if isinstance(short_side, int) else tuple(short_side)
        if not sides or any(not isinstance(side, int) or side < 1 for side in sides):
            raise ValueError(f'short_side must be pixels or some of them, got {short_side!r}')
        if max_size is not None and max_size < 1:
            raise ValueError(f'max_size must be at least 1 or None, got {max_size}')
        super().__init__(scale=sides, max_size=sys.maxsize if max_size is None else max_size)
        self.short_sides = sides

    def transform(self, results: dict) -> dict:
        """Resize imgs and gt_seg_maps; set img_shape and scale_factor."""
        old_height, old_width = results['imgs'].shape[1:3]
        side = int(np.random.choice(self.short_sides))
        # a frame much longer than wide has a short side under half a pixel when its long side fits
        width, height = (max(1, s) for s in self._get_output_shape(results['imgs'][0], side))
        results['scale_factor'] = (width / old_width, height / old_height)
        results['img_shape'] = (height, width)
        for key, how in (('imgs', 'bilinear'), ('gt_seg_maps', 'nearest')):
            if key in results:
                # Pillow smooths before it shrinks, and its nearest neighbour does not shift labels by up to half a
                # pixel against the frames, as OpenCV's does.
                resize = dict(size=(width, height), interpolation=how, backend='pillow')
                results[key] = np.stack([mmcv.imresize(x, **resize) for x in results[key]])
        return results

    def __repr__(self) -> str:
        max_size = None if self.max_size == sys.maxsize else self.max_size
        return f'{type(self).__name__}(short_side={self.short_sides}, max_size={max_size})'


@TRANSFORMS.register_module()
class FlipClip(RandomFlip):
    """Mirror a clip left to right with some probability, all frames or none.

    Changes imgs, (T, H, W, 3), and gt_seg_maps, (T, H, W) (optional); sets flip (bool) and flip_direction
    ('horizontal' or None).

    Args:
        prob (float): probability, 0 to 1. Defaults to 0.5.
    """

    def __init__(self, prob: float = 0.5):
        if not 0 <= prob <= 1:
            raise ValueError(f'prob must be from 0 to 1, got {prob}')
        super().__init__(prob=float(prob), direction='horizontal')

    def _flip(self, results: dict) -> None:
        """Mirror imgs and gt_seg_maps."""
        for key in {'imgs', 'gt_seg_maps'} & results.keys():
            results[key] = np.ascontiguousarray(results[key][:, :, ::-1])
