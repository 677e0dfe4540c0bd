# SPDX-License-Identifier: Apache-2.0
"""Sounds of other clips, of things that are not in the picture."""

from collections.abc import Mapping, Sequence

import numpy as np

from .metadata import NO_CLASSES


class OtherSounds:
    """The sounds of a split's clips, of which one that cannot come from a clip's own picture is drawn.

    Sounds of which it is not known what makes them are left out: of clips without names, or with ``NO_CLASSES``.

    Args:
        clips (Sequence[Mapping]): samples of a :class:`ClipDataset`: audio_path, num_frames and names.
    """

    def __init__(self, clips: Sequence[Mapping]):
        known = [c for c in clips if c['audio_path'] and c['names'] and NO_CLASSES.keys().isdisjoint(c['names'])]
        self._sounds = [(c['audio_path'], c['num_frames'], frozenset(c['names'])) for c in known]

    def draw(self, clip: Mapping, rng: np.random.RandomState) -> str:
        """File of a sound that is made by none of the names that a clip shows.

        Args:
            clip (Mapping): sample of a :class:`ClipDataset`: clip_id, audio_path, num_frames and visible_names.
            rng (np.random.RandomState): draws among the sounds that are at least as long as the clip, or among all of
                them where there is none.

        Raises:
            LookupError: there is no such sound.
        """
        visible = set(clip['visible_names'])
        fits = [s for s in self._sounds if visible and visible.isdisjoint(s[2])]
        paths = [path for path, length, _ in fits if length >= clip['num_frames']] or [path for path, *_ in fits]
        if not paths:
            raise LookupError(
                f'clip {clip["clip_id"]} has no partner: each of the {len(self._sounds)} sounds of its split may come '
                f'from what it shows ({", ".join(sorted(visible)) or "of unknown names"}). Use more clips, or only '
                "'silence' and 'noise'"
            )
        return paths[rng.randint(len(paths))]
