# SPDX-License-Identifier: Apache-2.0
"""Names by one pass of CLIP a frame, pooled over masks (CLIP-VIS)."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from timm.models.convnext import ConvNeXt
from torch import Tensor
from torch.nn import functional as F

from ...datasets.vocabulary import Vocabulary
from ..layers.clip import resnet_maps
from ..layers.mask_pooling import attention_pool, mean_pool
from ..layers.sounding import sounding
from .open_vocabulary import CPU_IMAGES, OpenVocabularyClassifier

COMBINE, SYNONYMS = ('clip_vis', 'mean'), ('max', 'mean')
MAX_SCALE = 100.0  # of CLIP's own factor


@MODELS.register_module()
class MaskPoolingClassifier(OpenVocabularyClassifier):
    """Pools the last map of CLIP's image tower over each mask, resized to it: no crops, whatever the number of masks.

    CLIPs with a ResNet pool by attention, those with a ConvNeXt by the mean. A mask without a position at stride 32 has
    no embedding: its names are equally likely in that frame.

    Args:
        share_backbone (bool): the map is that of the model's backbone, :class:`~ovavss_mm.models.CLIPResNet`, which the
            segmentor gives, and nothing of the image tower but its attention pool is held here. False: the tower is
            held here and sees the frames. Defaults to True.
        combine (str): scores of a clip from those of frames. ``'clip_vis'``: sqrt(p * mean over frames of sqrt(r * i))
            with p the query's score, r the name's probability in a frame and i the predicted IoU of the mask there (1
            without prediction), and ``frame_scores`` sqrt(sigmoid(r) * o) with o the object's probability in a frame
            (without logits of frames p); the sigmoid is of a probability, as published. ``'mean'``: probabilities of
            the mean logits over frames in which there is an embedding, as of :class:`OpenVocabularyClassifier`;
            queries without any are dropped. Defaults to 'clip_vis'.
        synonyms (str): ``'max'``, the greatest logit of a name and its synonyms counts, or ``'mean'``, that of their
            mean embedding. Defaults to 'max'.
        logit_scale (float, optional): None: the model's own, at most 100. Defaults to None.
        sound_thr (float, optional): queries of a lower score are left out. Defaults to None, none are.
        **kwargs: see :class:`OpenVocabularyClassifier`.

    Attributes:
        uses_backbone (bool): whether queries must have metainfo ``dense_map`` (T, dense_channels, h32, w32).
        dense_channels (int): channels of the map.

    Raises:
        ValueError: an unknown ``combine`` or ``synonyms``; an image tower that is no ResNet and no ConvNeXt, or that is
            to be shared and is no ResNet.
    """

    def __init__(
        self,
        share_backbone: bool = True,
        combine: str = 'clip_vis',
        synonyms: str = 'max',
        logit_scale: float | None = None,
        sound_thr: float | None = None,
        **kwargs: Any,
    ) -> None:
        if combine not in COMBINE or synonyms not in SYNONYMS:
            raise ValueError(
                f'combine must be one of {COMBINE}, synonyms of {SYNONYMS}, got {combine!r} and {synonyms!r}'
            )
        super().__init__(logit_scale=logit_scale, sound_thr=sound_thr, **kwargs)
        tower = self.clip_model.visual
        by_attention = isinstance(tower, ModifiedResNet)
        by_mean = isinstance(tower, TimmModel) and isinstance(tower.trunk, ConvNeXt)
        if not by_attention and (share_backbone or not by_mean):
            raise ValueError(
                'MaskPoolingClassifier takes a CLIP with a ResNet, or without share_backbone one with a ConvNeXt, got '
                f'{self.model_name or type(tower).__name__} with share_backbone={share_backbone}'
            )
        self.uses_backbone, self.combine, self.synonyms = share_backbone, combine, synonyms
        self.dense_channels = tower.attnpool.k_proj.in_features if by_attention else tower.trunk.num_features
        if share_backbone:
            for name in [name for name, _ in tower.named_children() if name != 'attnpool']:
                delattr(tower, name)

    def convert_state_dict(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Names as of the base class, without the part of the image tower that is the backbone's."""
        state, pool = super().convert_state_dict(state), 'clip_model.visual.attnpool.'
        image = 'clip_model.visual.' if self.uses_backbone else ' '
        return {key: value for key, value in state.items() if not key.startswith(image) or key.startswith(pool)}

    @torch.no_grad()
    def forward(
        self, frames: Tensor, queries: InstanceData, names: Sequence[str], pad_shape: tuple[int, int]
    ) -> InstanceData:
        """Name the queries of one clip.

        Args:
            frames (Tensor): (T, 3, h, w) uint8 RGB.
            queries (InstanceData): ``scores`` (Q,) in [0, 1] and ``masks`` (Q, T, h4, w4) logits; where there are such,
                ``ious`` (Q, T) in [0, 1], ``object_logits`` (Q, T, 2); metainfo ``dense_map`` if ``uses_backbone``.
            names (Sequence[str]): N names; a :class:`Vocabulary` may bring synonyms and templates.
            pad_shape (tuple[int, int]): size of the padded input in pixels.

        Returns:
            InstanceData: S queries with ``class_scores`` (S, N) and, unless ``combine`` is 'mean', ``frame_scores`` (S,
            T, N), both in [0, 1].

        Raises:
            ValueError: the map of the backbone is missing, or of other channels.
        """
        queries = sounding(queries, self.sound_thr)
        logits, valid = self.frame_logits(frames, queries, names, pad_shape)
        if self.combine == 'mean':
            named = valid.any(1)
            queries, logits, valid = queries[named], logits[named], valid[named]
            queries.class_scores = self._probabilities(logits.sum(1) / valid.sum(1, keepdim=True))
            return queries
        return self.combine_frames(queries, self._probabilities(logits))

    def combine_frames(self, queries: InstanceData, probabilities: Tensor) -> InstanceData:
        """Queries with ``class_scores`` and ``frame_scores`` of the names' probabilities (S, T, N), see the class."""
        quality = queries.ious[..., None] if 'ious' in queries else 1.0
        objects = queries.scores[:, None].expand(-1, probabilities.shape[1])  # (S, T)
        if 'object_logits' in queries:
            objects = queries.object_logits.softmax(-1)[..., 0]
        queries.class_scores = ((probabilities * quality).sqrt().mean(1) * queries.scores[:, None]).sqrt()
        queries.frame_scores = (probabilities.sigmoid() * objects[..., None]).sqrt()
        return queries

    def frame_logits(
        self, frames: Tensor, queries: InstanceData, names: Sequence[str], pad_shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Logits (S, T, N) of S queries in every frame, 0 for masks without an embedding, and which have one (S, T)."""
        vocabulary = names if isinstance(names, Vocabulary) else Vocabulary(names)
        sizes = [1] * len(vocabulary)
        if self.synonyms == 'max':
            sizes = [1 + len(vocabulary.synonyms[name]) for name in vocabulary]
            vocabulary = Vocabulary(vocabulary.words, templates=vocabulary.templates)
        text = self.text_embeddings(vocabulary)
        embeddings, valid = self.embed_masks(frames, queries, pad_shape)
        logits = text.new_zeros(*valid.shape, len(text))
        logits[valid] = self._logits(embeddings, text)
        if max(sizes) > 1:
            logits = torch.stack([rows.amax(-1) for rows in logits.split(sizes, -1)], -1)
        return logits, valid

    def embed_masks(self, frames: Tensor, queries: InstanceData, pad_shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Embed the masks that have a position at stride 32, see the base class."""
        if not len(queries):  # no pass for nothing
            return frames.new_zeros(0, 0, dtype=torch.float32), queries.masks.new_zeros(
                0, len(frames), dtype=torch.bool
            )
        dense = self._shared_map(queries) if self.uses_backbone else self.dense_map(frames, pad_shape)
        masks = F.interpolate(queries.masks, dense.shape[-2:], mode='bilinear', align_corners=False) > 0
        pooled = self.pool(dense, masks.transpose(0, 1)).transpose(0, 1)  # (S, T, D)
        valid = masks.flatten(2).any(-1)
        return F.normalize(pooled[valid], dim=-1), valid

    def pool(self, dense: Tensor, masks: Tensor) -> Tensor:
        """Embeddings (T, S, D), not normalised, of maps (T, c, h32, w32) in masks (T, S, h32, w32) bool."""
        tower = self.clip_model.visual
        if isinstance(tower, ModifiedResNet):
            return attention_pool(tower.attnpool, dense, masks)
        return mean_pool(tower, dense, masks)

    def dense_map(self, frames: Tensor, pad_shape: tuple[int, int]) -> Tensor:
        """Last map (T, c, h32, w32) of the image tower, of frames (T, 3, h, w) uint8 that are padded with zeros."""
        tower, (height, width) = self.clip_model.visual, frames.shape[-2:]
        images = F.pad((frames - self.mean) / self.std, (0, pad_shape[1] - width, 0, pad_shape[0] - height))
        size = min(self.chunk_size, CPU_IMAGES) if images.device.type == 'cpu' else self.chunk_size
        is_resnet = isinstance(tower, ModifiedResNet)
        return torch.cat(
            [resnet_maps(tower, x)[-1] if is_resnet else tower.trunk.forward_features(x) for x in images.split(size)]
        )

    def _shared_map(self, queries: InstanceData) -> Tensor:
        """The backbone's map, which must be there and fit."""
        dense = queries.get('dense_map')
        if dense is None or dense.shape[1] != self.dense_channels:
            found = 'none' if dense is None else f'one of {dense.shape[1]}'
            raise ValueError(
                f'with share_backbone the classifier takes a map of {self.dense_channels} channels of the backbone, '
                f'got {found}: the backbone must be a CLIPResNet of the same clip_model, or share_backbone=False'
            )
        return dense

    def _scale(self) -> Tensor | float:
        """Factor of cosines; CLIP keeps its own below a bound."""
        scale = super()._scale()
        return scale.clamp(max=MAX_SCALE) if isinstance(scale, Tensor) else scale
