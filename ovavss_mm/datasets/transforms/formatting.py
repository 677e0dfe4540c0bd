# SPDX-License-Identifier: Apache-2.0
"""From the dict of the pipeline to what models take."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.datasets.transforms import PackSegInputs
from mmseg.registry import TRANSFORMS

from .audio import KEYS as SOUNDS
from .sampling import frame_inds

META_KEYS = ('clip_id', 'subset', 'names', 'vocabulary', 'frame_paths', 'ori_shape', 'img_shape', 'flip')
META_KEYS += ('annotated', 'sound', 'sound_visible')


@TRANSFORMS.register_module()
class PackAVSegInputs(PackSegInputs):
    """Pack a clip into ``dict(inputs=dict(imgs=..., audio=...), data_samples=SegDataSample)``.

    ``imgs`` is a uint8 tensor (T, 3, H, W), RGB; ``audio`` a float32 tensor, (T, 1, 96, 64) log-mel patches or (T, Da)
    features; ``naming_audio`` float32 (T, ...) where a second LoadClipAudio has set it. With gt_seg_maps, the sample
    has ``gt_sem_seg``, PixelData of uint8 (T, H, W).

    Args:
        meta_keys (Sequence[str]): what goes into the sample's metainfo, where the pipeline has set it; frame_paths are
            those of the T frames, annotated is a list of bool, flip False where the pipeline does not flip,
            sound names what SwapClipAudio put in place of the clip's own, sound_visible is False where it took away
            the sound of what is seen; neither is there without it. OVIoUMetric needs both for its rates. Defaults to
            META_KEYS.
    """

    def __init__(self, meta_keys: Sequence[str] = META_KEYS):
        super().__init__(meta_keys=tuple(meta_keys))

    def transform(self, results: dict) -> dict:
        """Pack a clip.

        Raises:
            ValueError: imgs or audio is not there, or sounds have not a row a frame.
        """
        missing = [key for key in ('imgs', 'audio') if key not in results]
        if missing:
            raise ValueError(f'no {" and no ".join(missing)}: LoadClipFrames and LoadClipAudio go first')
        imgs, sounds = results['imgs'], {key: results[key] for key in SOUNDS if key in results}
        for key, rows in sounds.items():
            if len(imgs) != len(rows):
                raise ValueError(f'{len(imgs)} frames but {len(rows)} rows of {key}')
        meta: dict[str, Any] = dict(frame_paths=[results['frame_paths'][i] for i in frame_inds(results)])
        meta['flip'] = bool(results.get('flip', False))
        if 'annotated' in results:
            meta['annotated'] = results['annotated'].tolist()
        packed = super().transform(results | meta)
        imgs = np.ascontiguousarray(imgs.transpose(0, 3, 1, 2))  # (T, 3, H, W)
        sounds = {key: torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32)) for key, rows in sounds.items()}
        packed['inputs'] = dict(imgs=torch.from_numpy(imgs), **sounds)
        if 'gt_seg_maps' in results:
            packed['data_samples'].gt_sem_seg = PixelData(data=torch.from_numpy(results['gt_seg_maps']))  # (T, H, W)
        return packed
