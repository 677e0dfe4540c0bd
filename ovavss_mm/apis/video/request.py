# SPDX-License-Identifier: Apache-2.0
"""What a call of the inferencer asks for, and what it gets frame by frame."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...datasets.vocabulary import Vocabulary, split_names
from ...models.segmentors.windows import FrameClass, FrameObject
from ...utils.text import one_line
from ...visualization.name_colors import name_palette

MAX_FPS = 60


def check_separate(classes: Any) -> None:
    """Raise ValueError if several class names are given as one text."""
    if isinstance(classes, (list, tuple)) and len(classes) == 1 and isinstance(classes[0], str):
        (classes,) = classes
    if isinstance(classes, str) and split_names([classes]) != [classes.strip()]:
        raise ValueError(f"classes must be a list with a name an entry, as ['dog', 'cat'], got {one_line(classes)!r}")


@dataclass
class InferenceRequest:
    """Class names and settings of one call.

    Args:
        vocabulary (Vocabulary): N class names.
        window (int): T, frames that the model sees together. Defaults to 5.
        overlap (int): frames that consecutive windows share. None: 1, or 0 for windows of one frame. Defaults to None.
        score_thr (float): of the label map. None: the model's own. Defaults to None.
        min_sound_score (float): objects are labelled whose sound score is above this. None: the model's own. Defaults
            to None.
        fps (int): labelled frames per second. Defaults to 1.
        opacity (float): of the colours in pictures, 0 to 1. Defaults to 0.6.
        batch_size (int): windows that go through the model together. Defaults to 1.
        with_audio (bool): whether the model takes sound. Defaults to True.
        model_names (tuple[str, ...]): the names that a model of a closed vocabulary tells apart, some of which are in
            ``vocabulary``. None: it takes any. Defaults to None.

    Attributes:
        palette (np.ndarray): uint8 (N + 1, 3) RGB, the background first.

    Raises:
        ValueError: a value out of range.
    """

    vocabulary: Vocabulary
    window: int = 5
    overlap: int | None = None
    score_thr: float | None = None
    min_sound_score: float | None = None
    fps: int = 1
    opacity: float = 0.6
    batch_size: int = 1
    with_audio: bool = True
    model_names: tuple[str, ...] | None = None
    palette: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        if self.overlap is None:
            self.overlap = min(1, self.window - 1)
        if not isinstance(self.overlap, int) or not 0 <= self.overlap < self.window:
            raise ValueError(
                f'overlap must be from 0 to the window of {self.window} frames less 1, got {self.overlap!r}'
            )
        if not isinstance(self.fps, int) or not 1 <= self.fps <= MAX_FPS:
            raise ValueError(f'fps must be a whole number from 1 to {MAX_FPS}, got {self.fps!r}')
        for name in ('score_thr', 'min_sound_score', 'opacity'):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f'{name} must be from 0 to 1, got {value!r}')
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {self.batch_size!r}')
        self.palette = name_palette(self.vocabulary)

    @property
    def stride(self) -> int:
        """Frames from the start of a window to the start of the next."""
        return self.window - self.overlap


@dataclass
class LabelledFrame:
    """One labelled frame."""

    time: float  # in seconds from the first frame of the video
    label_map: np.ndarray  # (H, W) uint8, int16 for 255 names and more: 0 background, i + 1 name i
    found: dict[int, FrameClass]  # by name index
    objects: list[FrameObject] = field(default_factory=list)  # none where the config has linker=None
    object_map: np.ndarray | None = None  # (H, W) int16: 0 background, i + 1 objects[i]; None with linker=None
