# SPDX-License-Identifier: Apache-2.0
"""Open-vocabulary classification of masks by a frozen CLIP-like model (paper section 3.4)."""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import open_clip
import torch
from mmengine.structures import InstanceData
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from ...datasets.vocabulary import Vocabulary, resolve_templates
from ...utils.known_weights import package_file
from ...utils.text import shorten
from ..layers.clip import CLIP_NUMBERS, build_clip, check_tag, clip_weights_file, needs_hub
from ..layers.frozen import FrozenModule
from ..layers.sounding import sounding
from .text_embeddings import RemembersText, TextEmbeddings

SCORES = ('softmax', 'sigmoid')
CPU_IMAGES = 4  # encoded at a time on a CPU, whose cache holds no more (see docs/benchmarks.md)


class OpenVocabularyClassifier(RemembersText, FrozenModule):
    """Names masks by the similarity of image and text embeddings; subclasses say what is embedded of a mask.

    Args:
        clip_model (str | dict): open_clip's name of a model, such as ``'ViT-B-16-quickgelu'``, or the configuration of
            one (``embed_dim``, ``vision_cfg``, ``text_cfg``, ``quick_gelu``, ``custom_text``, ``init_logit_bias``...).
        init_cfg (dict, optional): ``dict(type='Pretrained', checkpoint=PATH)`` with OpenAI's or open_clip's weights.
            Instead of a path, one of open_clip's tags for ``clip_model``, such as ``'openai'``, has open_clip download
            the weights when they are needed. Defaults to None.
        tokenizer (dict, optional): arguments of open_clip's tokenizer. Defaults to None.
        preprocess (dict, optional): ``mean`` and ``std`` of the input, of R, G, B in 0..1. Defaults to the model's.
        templates (str | Sequence[str]): prompts with ``{}`` for the name, or the name of one of mmseg's sets. Defaults
            to 'vild'.
        logit_scale (float, optional): factor of cosine similarities, the paper's epsilon of equation 6. None: the
            model's own. Defaults to 100.
        score (str): ``'softmax'`` over names, or ``'sigmoid'`` of each, with the model's own bias, for SigLIP kinds.
            Defaults to 'softmax'.
        sound_thr (float, optional): queries whose sound score is above this are classified. None classifies every query
            that has a mask, as the released model does. Defaults to 0.5.
        chunk_size (int): images that are encoded at a time; bounds memory, never the result. Defaults to 64.

    Raises:
        ValueError: an unknown model, tag, template set or score, or a value out of range.
    """

    open_vocabulary = True

    def __init__(
        self,
        clip_model: str | dict = 'ViT-B-16-quickgelu',
        init_cfg: dict | None = None,
        tokenizer: dict | None = None,
        preprocess: dict | None = None,
        templates: str | Sequence[str] = 'vild',
        logit_scale: float | None = 100.0,
        score: str = 'softmax',
        sound_thr: float | None = 0.5,
        chunk_size: int = 64,
    ) -> None:
        super().__init__(init_cfg)
        if score not in SCORES:
            raise ValueError(f'score must be one of {SCORES}, got {score!r}')
        if not (logit_scale is None or logit_scale > 0) or chunk_size < 1:
            raise ValueError(
                f'logit_scale must be None or positive, chunk_size at least 1, got {logit_scale} and {chunk_size}'
            )
        if not (sound_thr is None or 0 <= sound_thr <= 1):
            raise ValueError(f'sound_thr must be None or in [0, 1], got {sound_thr}')
        self.model_name = clip_model if isinstance(clip_model, str) else None
        self.clip_model = build_clip(clip_model)
        check_tag(self.model_name, self.checkpoint)
        makers = (SimpleTokenizer, HFTokenizer, open_clip.get_tokenizer)[: 3 if self.model_name else 1]
        _check_keys('tokenizer', tokenizer, set().union(*(signature(maker).parameters for maker in makers)))
        _check_keys('preprocess', preprocess, {'mean', 'std'})
        self.tokenizer_cfg = dict(tokenizer or {})
        self.templates = resolve_templates(templates)
        self.logit_scale, self.score = logit_scale, score
        self.sound_thr, self.chunk_size = sound_thr, chunk_size
        cfg = preprocess_cfg(self.model_name, self.checkpoint) | (preprocess or {})
        mean, std = (torch.tensor(cfg[key]).view(3, 1, 1) * 255 for key in ('mean', 'std'))
        self.register_buffer('mean', mean, persistent=False)
        self.register_buffer('std', std, persistent=False)
        self._tokenizer = None
        self.freeze()

    @property
    def image_size(self) -> int:
        """Side of the model's input in pixels."""
        size = self.clip_model.visual.image_size
        return size if isinstance(size, int) else size[0]

    @property
    def tokenizer(self) -> SimpleTokenizer:
        """open_clip's tokenizer of the model; its file is read when it is needed."""
        if self._tokenizer is None:
            cfg = dict(context_length=self.clip_model.context_length) | self.tokenizer_cfg
            if cfg.get('bpe_path'):
                cfg['bpe_path'] = package_file(cfg['bpe_path'])
            named = self.model_name is not None
            self._tokenizer = open_clip.get_tokenizer(self.model_name, **cfg) if named else SimpleTokenizer(**cfg)
        return self._tokenizer

    # ------------------------------------------------------------------ weights
    def weights_file(self) -> str:
        """Path of the weights; those that ``init_cfg`` names by a tag are downloaded, once.

        Raises:
            ValueError: open_clip has no weights of that tag for this model.
        """
        return clip_weights_file(self.model_name, self.checkpoint)

    def convert_state_dict(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Prefix the keys of a CLIP checkpoint; three numbers of OpenAI's archives are no weights."""
        return {f'clip_model.{key}': value for key, value in state.items() if key not in CLIP_NUMBERS}

    @classmethod
    def portable_cfg(cls, cfg: dict[str, Any], keep: Callable[..., str]) -> dict[str, Any]:
        """See :class:`FrozenModule`; ``templates`` go, as they are kept with the names.

        Raises:
            ValueError: the text tower or the tokenizer comes from a hub.
        """
        clip_model = cfg.get('clip_model', signature(OpenVocabularyClassifier).parameters['clip_model'].default)
        if needs_hub(clip_model):
            raise ValueError(f'the text tower or tokenizer of {clip_model!r} comes from a hub, and cannot be kept')
        place = (cfg.get('init_cfg') or {}).get('checkpoint')
        known = preprocess_cfg(clip_model if isinstance(clip_model, str) else None, place)
        cfg = super().portable_cfg(dict(cfg, preprocess=known | (cfg.get('preprocess') or {})), keep)
        tokenizer = dict(cfg.get('tokenizer') or {})
        if tokenizer.get('bpe_path'):
            tokenizer['bpe_path'] = keep(tokenizer['bpe_path'])
        return {key: value for key, value in dict(cfg, tokenizer=tokenizer).items() if key != 'templates'}

    # ------------------------------------------------------------------ names
    def text_embeddings(self, names: Sequence[str], show_progress: bool = False) -> Tensor:
        """Text embeddings of class names; each word is embedded once.

        Args:
            names (Sequence[str]): N names; a :class:`Vocabulary` may bring synonyms and templates.
            show_progress (bool): whether a bar is shown where many are new. Defaults to False.

        Returns:
            Tensor: (N, D) float32, of length 1.

        Raises:
            ValueError: see :class:`Vocabulary`.
        """
        vocabulary = names if isinstance(names, Vocabulary) else Vocabulary(names)
        if self._text is None:
            self._text = TextEmbeddings(self.clip_model, self.tokenizer)
        templates = vocabulary.templates or self.templates
        return self._text(vocabulary, templates, show_progress).to(self.mean.device, non_blocking=True)

    @property
    def text_channels(self) -> int | None:
        """D of text embeddings; None for a text tower that does not say."""
        projection = getattr(getattr(self.clip_model, 'text', self.clip_model), 'text_projection', None)
        if projection is None:
            return None
        return projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1]

    def text_rows(self, names: Sequence[str]) -> Tensor:
        """(N, D) float32, whose products with embeddings of length 1 are logits of the names."""
        return self._scale() * self.text_embeddings(names)

    def truncated_words(self, vocabulary: Vocabulary) -> list[str]:
        """Names and synonyms whose ends are beyond the model's context length and have no effect."""
        room = self.clip_model.context_length - 2  # start and end
        suspects = [word for word in vocabulary.words if len(word) > room]
        encode = getattr(self.tokenizer, 'encode', None)  # not every tokenizer of open_clip has it
        return [word for word in suspects if encode is not None and len(encode(word)) > room]

    # ------------------------------------------------------------------ classification
    @torch.no_grad()
    def forward(
        self, frames: Tensor, queries: InstanceData, names: Sequence[str], pad_shape: tuple[int, int]
    ) -> InstanceData:
        """Name the sounding queries of one video clip (paper equation 6).

        Args:
            frames (Tensor): (T, 3, h, w) uint8 RGB at the input size, without padding.
            queries (InstanceData): ``scores`` (Q,) in [0, 1], sound scores, and ``masks`` (Q, T, h4, w4) logits; where
                there are ``frame_sounds`` (Q, T), masks of frames that are not above ``sound_thr`` are dropped.
            names (Sequence[str]): N names, see :meth:`text_embeddings`.
            pad_shape (tuple[int, int]): size of the padded input in pixels.

        Returns:
            InstanceData: the S queries that sound and have a mask in some frame, with ``class_scores`` (S, N) in
            [0, 1].
        """
        text = self.text_embeddings(names)
        queries = sounding(queries, self.sound_thr)
        embeddings, valid = self.embed_masks(frames, queries, pad_shape)
        named = valid.any(1).nonzero()[:, 0]
        queries, valid = queries[named], valid[named]
        queries.class_scores = self._class_scores(embeddings, valid, text)
        return queries

    def embed_masks(self, frames: Tensor, queries: InstanceData, pad_shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Image embeddings of the masks of S queries; subclasses override this.

        Args:
            frames (Tensor): (T, 3, h, w) uint8 RGB.
            queries (InstanceData): S queries with ``masks`` (S, T, h4, w4) logits.
            pad_shape (tuple[int, int]): size of the padded input in pixels.

        Returns:
            tuple: embeddings (M, D) float32 of length 1, in the order of (query, frame), and which masks have one, bool
            (S, T) of which M are True.
        """
        raise NotImplementedError

    def _class_scores(self, embeddings: Tensor, valid: Tensor, text: Tensor) -> Tensor:
        """Class scores (S, N) of the mean logits over the valid (S, T) frames of embeddings (M, D)."""
        logits = self._logits(embeddings, text)
        query = valid.nonzero(as_tuple=True)[0]
        total = logits.new_zeros(len(valid), len(text)).index_add_(0, query, logits)
        return self._probabilities(total / valid.sum(1, keepdim=True))

    def _logits(self, embeddings: Tensor, text: Tensor) -> Tensor:
        """Logits (M, N) of embeddings (M, D) and (N, D) of length 1."""
        with torch.autocast(text.device.type, enabled=False):
            # without images D is not known
            return self._scale() * embeddings @ text.T if embeddings.shape[0] else text[:0] @ text.T

    def _scale(self) -> Tensor | float:
        """Factor of cosine similarities."""
        return self.clip_model.logit_scale.exp() if self.logit_scale is None else self.logit_scale

    def _probabilities(self, logits: Tensor) -> Tensor:
        """Scores (..., N) in [0, 1] of logits (..., N)."""
        if self.score == 'softmax':
            return logits.softmax(-1)
        bias = getattr(self.clip_model, 'logit_bias', None)
        return (logits if bias is None else logits + bias).sigmoid()

    def encode(self, images: Tensor) -> Tensor:
        """Embed images.

        Args:
            images (Tensor): (M, 3, image_size, image_size) float32 RGB, 0..255.

        Returns:
            Tensor: (M, D) float32, of length 1; (0, 0) of no images.
        """
        if len(images) == 0:
            return images.new_zeros(0, 0)
        size = min(self.chunk_size, CPU_IMAGES) if images.device.type == 'cpu' else self.chunk_size
        parts = ((images - self.mean) / self.std).split(size)
        features = [self.clip_model.encode_image(part).float() for part in parts]
        return F.normalize(torch.cat(features), dim=-1)


def preprocess_cfg(model_name: str | None, checkpoint: str | None) -> dict[str, Sequence[float]]:
    """Mean and std of the weights' tag, else of the model's first tag, else OpenAI's."""
    tags = open_clip.list_pretrained_tags_by_model(model_name or '')
    tag = checkpoint if checkpoint in tags else next(iter(tags), None)
    cfg = open_clip.get_pretrained_cfg(model_name, tag) if tag else {}
    default = dict(mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)
    return default | {key: cfg[key] for key in default if cfg.get(key)}


def _check_keys(name: str, given: dict | None, known: set[str]) -> None:
    """Raise ValueError if a dict of arguments has others than the known ones."""
    if wrong := set(given or ()) - known:
        raise ValueError(f'{name} takes {", ".join(sorted(known))}, got {shorten(sorted(wrong))}')
