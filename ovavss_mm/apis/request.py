# SPDX-License-Identifier: Apache-2.0
"""What a call asks for, and what it gets frame by frame."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ..models.segmentors.windows import FrameClass
from ..visualization.name_colors import name_palette
from .vocabulary import Vocabulary

MAX_FPS = 60


@dataclass
class Request:
    """What one call asks for, checked.

    Args:
        vocabulary: N names.
        table: (N, D) float32 embeddings.
        score_thr: of pairs; None for the model's own.
        fps: labelled frames a second.
        overlap: frames that windows share.
        opacity: of the colours in pictures.
        batch_size: windows that go through the model together.
    """

    vocabulary: Vocabulary
    table: Tensor
    score_thr: float | None = None
    fps: int = 1
    overlap: int = 1
    opacity: float = 0.6
    batch_size: int = 1
    palette: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        """Check numbers, choose colours."""
        if not isinstance(self.fps, int) or not 1 <= self.fps <= MAX_FPS:
            raise ValueError(f'fps must be a whole number from 1 to {MAX_FPS}, got {self.fps!r}')
        for name in ('score_thr', 'opacity'):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f'{name} must be from 0 to 1, got {value!r}')
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {self.batch_size!r}')
        self.palette = name_palette(self.vocabulary.names)


@dataclass
class LabelledFrame:
    """One labelled frame.

    Args:
        time: in seconds from the first frame of the video.
        label_map: (H, W) uint8, or int16 for 255 names and more: 0 background, i + 1 name i.
        found: what is in it, by name index.
    """

    time: float
    label_map: np.ndarray
    found: dict[int, FrameClass]
