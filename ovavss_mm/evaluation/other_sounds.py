# SPDX-License-Identifier: Apache-2.0
"""Results of clips that come with several sounds, and rates of what is labelled that does not sound."""

import math
from collections.abc import Sequence

import numpy as np

OWN = 'own'


def part_by_sound(results: Sequence[dict]) -> tuple[list[dict], dict[str, list[dict]]]:
    """Results of the clips' own sound (of the only one, if there is one), and those of others by name, sorted.

    Args:
        results (Sequence[dict]): one a clip, with ``sound``, the name that :class:`SwapClipAudio` gave it.

    Raises:
        ValueError: there is no result; there are several sounds, and none is 'own'.
    """
    if not results:
        raise ValueError('there is nothing to evaluate: no clip was processed')
    names = sorted({result['sound'] for result in results})
    if len(names) > 1 and OWN not in names:
        raise ValueError(f"clips were tested with the sounds {', '.join(names)}, but not with their 'own'")
    groups = {name: [result for result in results if result['sound'] == name] for name in names}
    return groups.pop(OWN if OWN in groups else names[0]), groups


def false_positive_rates(wrong: np.ndarray) -> dict[str, float]:
    """Rates over n frames in which nothing visible sounds; NaN where there is none.

    Args:
        wrong (np.ndarray): int64 (n, 2), of each frame its wrong pixels and its pixels.

    Returns:
        dict: ``silent_pixel_fpr``, ``silent_frame_fpr`` and ``FPR`` in [0, 1], see :class:`OVIoUMetric`.
    """
    if not len(wrong):
        return dict.fromkeys(('silent_pixel_fpr', 'silent_frame_fpr', 'FPR'), float('nan'))
    shares = wrong[:, 0] / wrong[:, 1]
    return dict(
        silent_pixel_fpr=float(wrong[:, 0].sum() / wrong[:, 1].sum()),
        silent_frame_fpr=float((wrong[:, 0] > 0).mean()),
        FPR=math.fsum(shares) / len(shares),  # an exact sum, which no order changes
    )
