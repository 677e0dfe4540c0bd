# SPDX-License-Identifier: Apache-2.0
"""CLIP names sounding queries by square crops of their masks (paper section 3.6)."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import open_clip
import torch
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from mmseg.utils import get_predefined_templates
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from torch.nn import functional as F

from ...utils.weights import package_file
from ..layers.frozen import FrozenModule
from ..layers.resize import resize_masks
from ..released.weights import is_tag
from .square_crop import ANCHORS, CROPS, crop_boxes, crop_squares
from .text_embeddings import embed_names

MASK_SIZES = ('image', 'padded')
CPU_CROPS = 4  # at a time on a CPU; what CLIP makes of more leaves its cache
# in messages of PyTorch's allocators and of libraries that it calls, in lower case
NO_MEMORY = ('out of memory', "can't allocate memory", 'alloc_failed')


@MODELS.register_module()
class CLIPSquareCropClassifier(FrozenModule):
    """Open-vocabulary classifier of masks: frozen CLIP on square crops, mean over frames.

    Args:
        clip: open_clip's name of a model, such as ``'ViT-B-16-quickgelu'``, or its configuration as a dict
            (``embed_dim``, ``vision_cfg``, ``text_cfg``, ``quick_gelu``).
        init_cfg: ``dict(type='Pretrained', checkpoint=PATH)`` with OpenAI's or open_clip's weights, or None.
            Instead of a path, one of open_clip's tags for ``clip``, such as ``'openai'``, has open_clip download
            the weights when they are needed.
        tokenizer: arguments of open_clip's ``SimpleTokenizer``; None for CLIP's own vocabulary.
        templates: a set of mmseg's predefined templates, such as ``'vild'``, or a list of prompts with ``{}``.
        sound_thr: queries whose sound score is above this are classified; None classifies every query that has
            a mask, as the released model does.
        crop: what CLIP sees of a mask (paper table 5): ``'square'`` around its box, ``'resize'``, the box stretched to
            CLIP's input, or ``'whole_frame'``; all but the mask is black.
        anchor: of the square, ``'center'`` or ``'corner'`` of the mask's box.
        mask_size: size of masks that are cropped, ``'image'`` without padding or ``'padded'``.
        logit_scale: factor of cosine similarities.
        chunk_size: crops that are encoded at a time; bounds memory, never the result. Where memory is not enough it
            is halved, for as long as the classifier lives.

    Raises:
        ValueError: an unknown model, template set, crop, anchor or mask size, or a value out of range.
    """

    def __init__(
        self,
        clip: str | dict = 'ViT-B-16-quickgelu',
        init_cfg: dict | None = None,
        tokenizer: dict | None = None,
        templates: str | Sequence[str] = 'vild',
        sound_thr: float | None = 0.5,
        crop: str = 'square',
        anchor: str = 'center',
        mask_size: str = 'image',
        logit_scale: float = 100.0,
        chunk_size: int = 64,
    ) -> None:
        super().__init__(init_cfg)
        if crop not in CROPS or anchor not in ANCHORS or mask_size not in MASK_SIZES:
            raise ValueError(
                f'crop must be of {CROPS}, anchor of {ANCHORS}, mask_size of {MASK_SIZES}, '
                f'got {crop!r}, {anchor!r}, {mask_size!r}'
            )
        if chunk_size < 1 or logit_scale <= 0 or not (sound_thr is None or 0 <= sound_thr <= 1):
            raise ValueError(
                'chunk_size must be at least 1, logit_scale positive, sound_thr None or in [0, 1], '
                f'got {chunk_size}, {logit_scale}, {sound_thr}'
            )
        self.clip_name = clip if isinstance(clip, str) else None
        self.clip = _build_clip(clip)
        self.tokenizer_cfg = dict(tokenizer or {})
        self.templates = (
            get_predefined_templates(templates) if isinstance(templates, str) else list(templates)
        )
        if not self.templates or not all('{}' in template for template in self.templates):
            raise ValueError(
                f'templates must be prompts with {{}} for the name, got {self.templates}'
            )
        self.sound_thr, self.mask_size = sound_thr, mask_size
        self.crop_kind, self.anchor = crop, anchor
        self.logit_scale, self.chunk_size = logit_scale, chunk_size
        mean, std = (
            torch.tensor(v).view(3, 1, 1) * 255
            for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        )
        self.register_buffer('mean', mean, persistent=False)
        self.register_buffer('std', std, persistent=False)
        self._fits: int | None = None  # crops that CLIP has memory for, once it has run out of it
        self._tokenizer = None
        self._embeddings: dict[tuple[str, ...], Tensor] = {}
        self.freeze()

    @property
    def crop_size(self) -> int:
        """Side of CLIP's input in pixels."""
        size = self.clip.visual.image_size
        return size if isinstance(size, int) else size[0]

    def weights_file(self) -> str:
        """Path of the weights; those that ``init_cfg`` names by a tag are downloaded, once.

        Raises:
            ValueError: open_clip has no weights of that tag for this model.
        """
        if not is_tag(self.checkpoint):
            return self.checkpoint
        url = isinstance(self.clip_name, str) and open_clip.get_pretrained_url(
            self.clip_name, self.checkpoint
        )
        if not url:
            raise ValueError(
                f'open_clip has no weights {self.checkpoint!r} for {self.clip_name!r}: give a path, a tag of '
                'open_clip.list_pretrained(), or the name of a model as clip'
            )
        return open_clip.pretrained.download_pretrained_from_url(url)

    def convert_state_dict(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Keys of OpenAI's archives to ours; their three numbers that are no weights are dropped."""
        numbers = ('input_resolution', 'context_length', 'vocab_size')
        return {f'clip.{key}': value for key, value in state.items() if key not in numbers}

    def init_weights(self) -> None:
        """As every frozen module; new weights make remembered embeddings worthless."""
        self._embeddings.clear()
        super().init_weights()

    def _load_from_state_dict(self, *args: object) -> None:
        """As the host; new weights make remembered embeddings worthless."""
        self._embeddings.clear()
        super()._load_from_state_dict(*args)

    def text_embeddings(self, names: Sequence[str]) -> Tensor:
        """(N, D) float32 embeddings of N names, computed once a vocabulary."""
        if isinstance(names, str):  # its letters would pass for names
            raise ValueError(f'the vocabulary must be a sequence of names, got the text {names!r}')
        names = tuple(names)
        if names not in self._embeddings:
            embeddings = self.embed(names)
            if len(self._embeddings) >= 16:  # a server may see any number of vocabularies
                self._embeddings.clear()
            self._embeddings[names] = embeddings
        return self._embeddings[names].to(self.mean.device)

    @property
    def tokenizer(self) -> SimpleTokenizer:
        """Texts to tokens; read from its file when it is needed."""
        if self._tokenizer is None:
            cfg = dict(dict(context_length=self.clip.context_length), **self.tokenizer_cfg)
            if cfg.get('bpe_path'):
                cfg['bpe_path'] = package_file(cfg['bpe_path'])
            self._tokenizer = SimpleTokenizer(**cfg)
        return self._tokenizer

    def embed(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        """Embeddings (N, D) float32 of names under templates (default: the classifier's), not remembered."""
        with torch.autocast(self.mean.device.type, enabled=False):
            return embed_names(self.clip, self.tokenizer, names, templates or self.templates)

    @contextmanager
    def using(self, names: Sequence[str], embeddings: Tensor) -> Iterator[None]:
        """Take given embeddings (N, D) for these N names, such as means over synonyms, while the block runs."""
        before, self._embeddings = self._embeddings, {tuple(names): embeddings}
        try:
            yield
        finally:
            self._embeddings = before

    @torch.no_grad()
    def forward(
        self,
        frames: Tensor,
        queries: InstanceData,
        names: Sequence[str],
        pad_shape: tuple[int, int],
    ) -> InstanceData:
        """Name the queries of one clip.

        Args:
            frames: (T, 3, h, w) uint8 RGB at the input size, without padding.
            queries: ``sound_scores`` (Q,) and ``masks`` (Q, T, h4, w4) logits.
            names: N names.
            pad_shape: size of the padded input in pixels.

        Returns:
            The S queries that sound and have a pixel above 0.5 in some frame, with ``class_scores`` (S, N), softmax
            over names.
        """
        text = self.text_embeddings(names)
        if self.sound_thr is not None:
            queries = queries[queries.sound_scores > self.sound_thr]
        embeddings, valid = self._embed_masks(frames, queries.masks, pad_shape)
        queries, valid = queries[valid.any(1)], valid[valid.any(1)]
        queries.class_scores = self._mean_similarity(embeddings, valid, text).softmax(-1)
        return queries

    def _embed_masks(
        self, frames: Tensor, masks: Tensor, pad_shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Embeddings (M, D) of the crops of masks (S, T, h4, w4) that have a pixel, and which have one, (S, T)."""
        img_shape = None if self.mask_size == 'padded' else tuple(frames.shape[-2:])
        valid, embeddings = [], []
        waiting = frames.new_zeros(0, 3, self.crop_size, self.crop_size, dtype=self.mean.dtype)
        # a few queries at a time: masks at full size are by far the largest tensors of a test
        for part in masks.split(max(1, self.chunk_size // len(frames))):
            probabilities = resize_masks(part, pad_shape, img_shape).sigmoid()
            valid.append((probabilities > 0.5).flatten(2).any(-1))
            query, frame = valid[-1].nonzero(as_tuple=True)
            if len(query):
                crops = self.crop(frames, frame, probabilities[query, frame])
                waiting = torch.cat([waiting, crops])
            while len(waiting) >= self.chunk_size:
                embeddings.append(self.encode(waiting[: self.chunk_size]))
                waiting = waiting[self.chunk_size :]
        embeddings.append(self.encode(waiting))
        return torch.cat(embeddings), torch.cat(valid)

    def _mean_similarity(self, embeddings: Tensor, valid: Tensor, text: Tensor) -> Tensor:
        """Logits of names (S, N): the mean over valid (S, T) frames of those of crops (M, D)."""
        with torch.autocast(text.device.type, enabled=False):
            logits = self.logit_scale * embeddings @ text.T  # (M, N)
        query = valid.nonzero(as_tuple=True)[0]
        total = logits.new_zeros(len(valid), len(text)).index_add_(0, query, logits)
        return total / valid.sum(1, keepdim=True)

    def crop(self, frames: Tensor, frame_inds: Tensor, masks: Tensor) -> Tensor:
        """Crops (M, 3, crop_size, crop_size) in 0..255 of masks (M, H, W), probabilities."""
        boxes = crop_boxes(masks > 0.5, self.crop_kind, self.anchor, tuple(frames.shape[-2:]))
        return crop_squares(frames, frame_inds, masks, boxes, self.crop_size)

    def encode(self, crops: Tensor) -> Tensor:
        """Embeddings (M, D) of length 1 of crops (M, 3, crop_size, crop_size) in 0..255; equal ones once."""
        if len(crops) == 0:
            return self.mean.new_zeros(0, self.clip.text_projection.shape[1])
        crops, index = crops.unique(dim=0, return_inverse=True)
        embeddings = self._encode_images((crops - self.mean) / self.std)
        return F.normalize(embeddings, dim=-1)[index]

    def _encode_images(self, images: Tensor) -> Tensor:
        """CLIP's embeddings (M, D) float32 of images, M at least 1, as many at a time as memory allows.

        Raises:
            RuntimeError: there is not even memory for one.
        """
        wanted = CPU_CROPS if images.device.type == 'cpu' else len(images)
        size = start = min(wanted, self._fits or wanted)
        parts, done = [], 0
        while done < len(images):
            part = images[done : done + size]
            try:
                parts.append(self.clip.encode_image(part).float())
                done += len(part)
                continue
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not _is_no_memory(error):
                    raise
            # out here the error, and with it what the failed pass still held, is gone
            size = len(part) // 2
            if images.is_cuda:
                torch.cuda.empty_cache()
        if size < start:
            self._fits = size
            print_log(
                f'memory is not enough for CLIP on {start} crops at a time: from now on {size} at a time',
                'current',
                logging.WARNING,
            )
        return torch.cat(parts)


def _is_no_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, of a GPU or of the machine."""
    message = str(error).lower()
    known = isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))
    return known or any(text in message for text in NO_MEMORY)


def _build_clip(clip: str | dict) -> torch.nn.Module:
    """open_clip's CLIP with drawn weights."""
    cfg = open_clip.get_model_config(clip) if isinstance(clip, str) else deepcopy(dict(clip))
    if cfg is None:
        raise ValueError(
            f'open_clip has no model {clip!r}; open_clip.list_models() names those it has'
        )
    model = open_clip.CLIP(**cfg)
    for module in model.modules():
        # else torch transposes what comes in, and under autocast copies the projection for each token
        if isinstance(module, (open_clip.transformer.Transformer, torch.nn.MultiheadAttention)):
            module.batch_first = False
    return model
