# SPDX-License-Identifier: Apache-2.0
"""Which frames of a clip are used."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SampleClipFrames(BaseTransform):
    """Choose frames of a clip at random, in order.

    One annotated frame is always among them if the clip has any (a clip of v1s has one in five); where all frames are
    annotated, each choice is equally likely.

    Reads num_frames and label_paths (optional); sets frame_inds, int64 (T,), ascending.

    Args:
        num_frames (int, optional): T. A shorter clip gives all its frames. Defaults to None: all frames.
    """

    reads_files = True  # of a clip; the inferencer has its own sources

    def __init__(self, num_frames: int | None = None):
        if num_frames is not None and num_frames < 1:
            raise ValueError(f'num_frames must be at least 1 or None, got {num_frames}')
        self.num_frames = num_frames

    def transform(self, results: dict) -> dict:
        """Set frame_inds."""
        total = results['num_frames']
        frames = np.arange(total, dtype=np.int64)
        if self.num_frames is not None and self.num_frames < total:
            annotated = [i for i, path in enumerate(results.get('label_paths') or []) if path is not None]
            kept = np.random.choice(annotated or frames)
            others = np.random.choice(frames[frames != kept], self.num_frames - 1, replace=False)
            frames = np.sort(np.append(others, kept))
        results['frame_inds'] = frames
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_frames={self.num_frames})'


def frame_inds(results: dict) -> np.ndarray:
    """The frames in use, int64 (T,): frame_inds, or all frames of the clip if it is not set."""
    return results['frame_inds'] if 'frame_inds' in results else np.arange(results['num_frames'], dtype=np.int64)
