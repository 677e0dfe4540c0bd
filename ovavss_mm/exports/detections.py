# SPDX-License-Identifier: Apache-2.0
"""Labelled frames as detections of the library supervision."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .base import objects_of

if TYPE_CHECKING:
    from supervision import Detections

    from ..apis.video.request import LabelledFrame


def to_detections(frame: 'LabelledFrame', names: Sequence[str]) -> 'Detections':
    """Make ``supervision.Detections`` of a labelled frame, for its annotators, trackers, zones and metrics.

    Args:
        frame (LabelledFrame): of ``AVSegInferencer.stream``; H and W are its size in pixels, n its objects.
        names (Sequence[str]): N class names.

    Returns:
        supervision.Detections: ``xyxy`` float32 (n, 4); ``mask`` bool (n, H, W); ``class_id`` int (n,), 0 the first of
        the names; ``tracker_id`` int (n,), the ids of objects; ``confidence`` float32 (n,), class scores; and in
        ``data`` ``class_name`` and ``sound``, the sound scores, (n,).

    Raises:
        ImportError: the library is not installed.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise ImportError("detections need the library supervision: pip install 'ovavss_mm[export]'") from error
    pairs = list(objects_of(frame))
    objects, masks = [found for found, _ in pairs], [mask for _, mask in pairs]
    return Detections(
        xyxy=np.array([found.box for found in objects], np.float32).reshape(-1, 4),
        mask=np.array(masks, bool).reshape(-1, *frame.label_map.shape),
        confidence=np.array([found.score for found in objects], np.float32),
        class_id=np.array([found.label for found in objects], int),
        tracker_id=np.array([found.id for found in objects], int),
        data=dict(
            class_name=np.array([names[found.label] for found in objects], str),
            sound=np.array([found.sound for found in objects], np.float32),
        ),
    )
