# SPDX-License-Identifier: Apache-2.0
"""A second opinion on names, from the sound."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from torch import Tensor

from ...datasets.vocabulary import Vocabulary

PARTS = ('base', 'novel')
TINY = torch.finfo(torch.float32).tiny  # stands for probabilities of 0, whose logarithm is none
STEP = "dict(type='LoadClipAudio', key='naming_audio', front_end=dict(type='CLAPLogMel'))"


@MODELS.register_module()
class SoundNameScorer(BaseModule):
    """Names queries by what a classifier sees and what a namer hears: p = p_image^(1 - a) * p_sound^a.

    Both are probabilities over the N names. ``p_sound`` is that of the seconds in which a query sounds, those in which
    its mask has a pixel above 0.5: their geometric mean, which is the same as combining second by second. The product
    is normalised over names again. Scores of a classifier that do not sum to 1 (a sigmoid of each, those of CLIP-VIS,
    OV2Seg and closed-set heads) keep the greatest of a query instead; ``frame_scores`` are combined so frame by frame,
    each with the sound of its second. Queries and frames without a second that sounds keep their scores.

    The steps of the pipeline have to load the namer's sound: a second ``LoadClipAudio`` of key 'naming_audio'.

    Args:
        classifier (dict): config of any classifier of queries; what else is asked of it, such as ``text_embeddings``,
            is asked through this one.
        namer (dict): config of a model with ``probabilities(audio, names)``, (T, N) of rows of sound (T, ...), such as
            ``dict(type='SoundNamer', ...)``.
        sound_weight (float | dict): a, in [0, 1]. A ``dict(base=..., novel=...)`` has one for the base names of the
            vocabulary and one for all others, the names of a vocabulary that knows no base included: each name is
            raised to its own. 0 gives exactly what the classifier gives, and the namer is not run. Defaults to 0.

    Raises:
        ValueError: a wrong ``sound_weight``.
    """

    def __init__(self, classifier: dict, namer: dict, sound_weight: float | Mapping[str, float] = 0.0) -> None:
        super().__init__()
        weights = sound_weight if isinstance(sound_weight, Mapping) else dict.fromkeys(PARTS, sound_weight)
        if set(weights) != set(PARTS) or not all(_is_share(weight) for weight in weights.values()):
            raise ValueError(f'sound_weight must be in [0, 1], or a dict of base and novel, got {sound_weight!r}')
        self.weights = dict(weights)
        self.classifier = MODELS.build(classifier)
        self.namer = MODELS.build(namer)
        self.register_load_state_dict_pre_hook(_rename_inner)

    def __getattr__(self, name: str) -> Any:
        """What this one does not have is the classifier's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith('_') or name in ('classifier', 'namer'):
                raise
            return getattr(self.classifier, name)

    def truncated_words(self, vocabulary: Vocabulary) -> list[str]:
        """Names and synonyms whose ends the classifier or the namer does not read."""
        parts = (self.classifier, self.namer) if self.uses_sound else (self.classifier,)
        return list(dict.fromkeys(word for part in parts for word in part.truncated_words(vocabulary)))

    @property
    def uses_sound(self) -> bool:
        """Whether queries must have metainfo ``naming_audio`` (T, ...)."""
        return any(self.weights.values())

    @torch.no_grad()
    def forward(
        self, frames: Tensor, queries: InstanceData, names: Sequence[str], pad_shape: tuple[int, int]
    ) -> InstanceData:
        """Name the queries of one clip.

        Args:
            frames (Tensor): (T, 3, h, w) uint8 RGB.
            queries (InstanceData): what the classifier takes, with ``masks`` (Q, T, h', w') logits and, if
                ``uses_sound``, metainfo ``naming_audio`` (T, ...) float32.
            names (Sequence[str]): N names.
            pad_shape (tuple[int, int]): size of the padded input in pixels.

        Returns:
            InstanceData: the S queries of the classifier with its scores, combined with the sound's.

        Raises:
            ValueError: the sound is missing.
        """
        if self.uses_sound and queries.get('naming_audio') is None:
            raise ValueError(f'SoundNameScorer hears no sound: the pipeline needs the step {STEP}')
        named = self.classifier(frames, queries, names, pad_shape)
        if not self.uses_sound or not len(named):
            return named
        sound = _log(self.namer.probabilities(queries.naming_audio, names))  # (T, N)
        weights = sound.new_tensor([self.weights[part] for part in _parts_of(names)])
        sounding = _sounding(named.masks, tuple(frames.shape[-2:]), pad_shape).to(sound)  # (S, T)
        heard = sounding @ sound / sounding.sum(1, keepdim=True).clamp(min=1)  # (S, N)
        to_one = 'frame_scores' not in named and getattr(self.classifier, 'score', None) == 'softmax'
        combined = combine(named.class_scores, heard, weights, to_one)
        named.class_scores = torch.where(sounding.any(1)[:, None], combined, named.class_scores)
        if 'frame_scores' in named:
            combined = combine(named.frame_scores, sound, weights, to_one=False)
            named.frame_scores = torch.where(sounding[..., None] > 0, combined, named.frame_scores)
        return named


def combine(scores: Tensor, sound: Tensor, weights: Tensor, to_one: bool) -> Tensor:
    """Scores (..., N) in [0, 1] to the power 1 - a, times those of the sound to the power a.

    Args:
        scores (Tensor): (..., N) in [0, 1].
        sound (Tensor): (..., N), logarithms of the sound's.
        weights (Tensor): (N,), a of each name.
        to_one (bool): whether the products are normalised to a sum of 1; else their greatest is that of the scores.

    Returns:
        Tensor: (..., N) in [0, 1].
    """
    image = _log(scores)
    both = (1 - weights) * image + weights * sound
    if to_one:
        return both.softmax(-1)
    return (both - both.amax(-1, keepdim=True) + image.amax(-1, keepdim=True)).exp()


def _log(scores: Tensor) -> Tensor:
    """Finite logarithms, float32."""
    return scores.float().clamp(min=TINY).log()


def _sounding(masks: Tensor, img_shape: tuple[int, ...], pad_shape: tuple[int, ...]) -> Tensor:
    """In which frames mask logits (S, T, h', w') are positive at their own size, padding aside: bool (S, T)."""
    rows, columns = (
        -(-size * own // padded)  # rounded up
        for size, own, padded in zip(img_shape, masks.shape[-2:], pad_shape, strict=True)
    )
    return (masks[..., :rows, :columns] > 0).flatten(2).any(-1)


def _parts_of(names: Sequence[str]) -> list[str]:
    """'base' or 'novel' for each name; what is not known as base is novel."""
    base = set(getattr(names, 'base', ()))
    return [PARTS[name not in base] for name in names]


def _is_share(weight: object) -> bool:
    """Whether it is a number from 0 to 1."""
    return isinstance(weight, (int, float)) and not isinstance(weight, bool) and 0 <= weight <= 1


def _rename_inner(_module: SoundNameScorer, state: dict, prefix: str, *_: object) -> None:
    """Load hook: the checkpoint of a model whose classifier was not wrapped fits too."""
    own = tuple(f'{prefix}{part}.' for part in ('classifier', 'namer'))
    for key in [key for key in state if key.startswith(prefix) and not key.startswith(own)]:
        state[f'{own[0]}{key.removeprefix(prefix)}'] = state.pop(key)
