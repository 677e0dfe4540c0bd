# SPDX-License-Identifier: Apache-2.0
"""Contracts between the stages: what each takes and gives. No stage reaches into another one.

Notation: B clips in a batch, T frames in a clip (one a second), S audio tokens a frame, Q queries, N class names, K
classes of a dense head, C visual and Da audio channels; f4, f8, f16, f32 are maps at that stride. A component is
registered in mmseg's registries and named in a config; :class:`~ovavss_mm.models.AVEncoderDecoder` joins them.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from mmengine.structures import InstanceData
from mmseg.structures import SegDataSample
from torch import Tensor

from .layers.audio_prompts import NoAudioPrompt

Maps = Sequence[Tensor]  # f4, f8, f16, f32, each (B * T, c, h, w) float32


class SoundFrontEnd(Protocol):
    """On the data side: from a waveform to one row of features a frame; a transform of ``LoadClipAudio``.

    Attributes:
        sample_rate (int): of the waveform, in Hz.
        row_samples (int): samples that one row is made of.
    """

    sample_rate: int
    row_samples: int

    def row_start(self, i: int) -> int:
        """First sample of row i, counted from the start of the clip."""

    def row(self, samples: np.ndarray) -> np.ndarray:
        """Features (...) float32 of ``row_samples`` samples, mono float in [-1, 1]."""

    def __call__(self, waveform: np.ndarray, num_rows: int) -> np.ndarray:
        """Features (T, ...) float32 of a waveform (n,); a short one is filled with silence or otherwise."""


class AudioEncoder(Protocol):
    """Embeds the features of each frame.

    Attributes:
        out_channels (int): Da.
    """

    out_channels: int

    def __call__(self, audio: Tensor) -> Tensor:
        """(B * T, ...) float32 to (B * T, Da), or to (B * T, S, Da) where a frame has S tokens."""


class Neck(Protocol):
    """Early fusion of maps and audio; a fusion over time finds the clips by T.

    It may also have a ``loss(feats, audio, data_samples) -> dict[str, Tensor]``, of what it is given in training.

    Attributes:
        needs_audio (bool): whether it cannot work without audio.
    """

    needs_audio: bool

    def __call__(self, feats: Maps, audio: Tensor, num_frames: int) -> tuple[Maps, Tensor]:
        """Maps (B * T, c, h, w) and audio (B * T, Da) or (B * T, S, Da), of clips of T frames: both, fused."""


class Fusion(Protocol):
    """The part of :class:`~ovavss_mm.models.AVFusionNeck` that fuses its joined tokens.

    For a :class:`~ovavss_mm.models.losses.SoundMatchLoss` it also has ``match(visual, audio)``: logits (M, A, L) of the
    positions of M frames (M, L, C) with the sounds of A frames (A, S, Da).
    """

    def __call__(self, visual: Tensor, audio: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
        """Visual tokens (B * T, L, C) and audio tokens (B * T, S, Da): both, in these shapes."""


class DecodeHead(Protocol):
    """Decodes fused maps and audio; ``x`` is (maps, audio (B, T, Da) or (B, T, S, Da)).

    Attributes:
        needs_audio (bool): whether it cannot work without audio.
    """

    needs_audio: bool

    def loss(self, x: tuple[Maps, Tensor], data_samples: list[SegDataSample], train_cfg: object) -> dict[str, Tensor]:
        """Named scalar losses of B samples with ``gt_sem_seg`` (T, H, W), 255 where nothing is annotated."""

    def predict(self, x: tuple[Maps, Tensor], batch_img_metas: object, test_cfg: object) -> object:
        """Predictions of B clips, see the kinds of heads."""


class QueryHead(DecodeHead, Protocol):
    """A head of queries of a clip, which a classifier names."""

    def predict(self, x: tuple[Maps, Tensor], batch_img_metas: object, test_cfg: object) -> list[InstanceData]:
        """For each clip ``scores`` (Q,) in [0, 1], whether a query sounds, and ``masks`` (Q, T, h4, w4) logits.

        Whatever else a classifier wants may be there, such as ``name_scores`` (Q, N), ``frame_sounds`` (Q, T), the
        sound scores of single frames, or embeddings (Q, ...), and ``query_embeds`` (Q, C) for a :class:`Linker`.
        """


class MaskDecoder(Protocol):
    """The decoder of :class:`~ovavss_mm.models.AudioMaskDecHead`, which predicts before and after each layer.

    Attributes:
        layers (Sequence): see :class:`~ovavss_mm.models.layers.AudioMaskDecoderLayer` for what each is called with.
        post_norm (Callable): norm of the queries before every prediction.
        audio_prompt (NoAudioPrompt): how audio conditions the queries; see the base class of all prompts.
        embed_dims (int): C.
        num_heads (int): of the masked attention.
    """

    layers: Sequence
    post_norm: Callable
    audio_prompt: NoAudioPrompt
    embed_dims: int
    num_heads: int

    def init_weights(self) -> None:
        """Initialise layers and prompt."""


class PerFrameQueryHead(DecodeHead, Protocol):
    """A head of queries of single frames, which a tracker puts in order.

    Attributes:
        per_frame (bool): True, which a head without this attribute is not.
    """

    per_frame: bool

    def predict(self, x: tuple[Maps, Tensor], batch_img_metas: object, test_cfg: object) -> list[list[InstanceData]]:
        """For each clip T InstanceData: ``scores`` (Q,), ``masks`` (Q, 1, h4, w4) and what the tracker compares."""


class DenseHead(DecodeHead, Protocol):
    """A head of logits per class, which needs no classifier.

    Attributes:
        dense_classes (int, optional): K, which ``ClassCountHook`` compares with the data.
        counts_background (bool, optional): whether ``num_classes`` of its config counts background, True if missing.
    """

    def predict(self, x: tuple[Maps, Tensor], batch_img_metas: object, test_cfg: object) -> Tensor:
        """Logits (B, T, K, h, w): K = N + 1 classes of training, background first; or K = 1, sounding or not."""


class Tracker(Protocol):
    """Gives queries of single frames one order over all frames of a clip."""

    def __call__(self, frames: list[InstanceData]) -> InstanceData:
        """T InstanceData of a :class:`PerFrameQueryHead`: the queries of a :class:`QueryHead`."""


class Linker(Protocol):
    """Gives objects ids that last over the windows of a video; the inferencer builds one a video from ``linker``.

    Windows come group after group, as :func:`~.segmentors.windows.group_windows` yields them; with several frames a
    second, a group has a window of each phase, one after the other. The last group may begin less than a second before
    the last window of the one before.

    Attributes:
        fps (int): labelled frames a second, which the inferencer sets.
    """

    fps: int

    def __call__(self, numbers: list[int], pairs: InstanceData) -> InstanceData:
        """T numbers of frames and painted pairs, see :class:`Painter`: the pairs with ``ids`` (M,) int64.

        Masks have the size of the video. The pairs may be changed in place, and one may become several, of the same
        scores, whose masks together are its mask. Each pair that has a pixel needs an id.
        """


class MaskRefiner(Protocol):
    """Makes masks finer, before queries are named."""

    def __call__(self, frames: Tensor, queries: InstanceData, pad_shape: tuple[int, int]) -> InstanceData:
        """The S queries that it refines, and no others, with ``masks`` (S, T, h', w') logits; all else is kept.

        Args:
            frames (Tensor): (T, 3, h, w) uint8 RGB at the input size, without padding.
            queries (InstanceData): of a :class:`QueryHead`, with ``masks`` (Q, T, h4, w4) over the padded input.
            pad_shape (tuple[int, int]): size of the padded input.

        Masks cover the padded input too, at any size: all that follows resizes them. They are the largest tensors of a
        test: S x T x h' x w' should stay near Q x T x h4 x w4, by a smaller S where h' and w' are larger.
        """


class Classifier(Protocol):
    """Names queries.

    Attributes:
        open_vocabulary (bool): whether it takes any names, or those of training only.
        uses_sound (bool, optional): whether queries come with metainfo ``naming_audio`` (T, ...), the rows that
            ``LoadClipAudio(key='naming_audio')`` of the pipeline loads; not there where it has no such step.
        uses_backbone (bool, optional): whether queries come with metainfo ``dense_map`` (T, dense_channels, h32, w32),
            the last map of a backbone that has ``dense_channels`` too.
    """

    open_vocabulary: bool

    def __call__(
        self, frames: Tensor, queries: InstanceData, names: Sequence[str], pad_shape: tuple[int, int]
    ) -> InstanceData:
        """The S queries that are named, with ``class_scores`` (S, N) in [0, 1].

        Args:
            frames (Tensor): (T, 3, h, w) uint8 RGB at the input size, without padding.
            queries (InstanceData): of a :class:`QueryHead`.
            names (Sequence[str]): N names, or a :class:`~ovavss_mm.datasets.Vocabulary` with synonyms and templates.
            pad_shape (tuple[int, int]): size of the padded input, which the masks cover: those of a head are a quarter
                of it, those of a :class:`MaskRefiner` may be larger.
        """


class SoundNamer(Protocol):
    """Compares the sound of frames with names.

    A part of :class:`~ovavss_mm.models.Sam4AVS`, and of :class:`~ovavss_mm.models.SoundNameScorer`, which asks for
    ``probabilities`` alone.

    Attributes:
        open_vocabulary (bool): whether it takes any names.
    """

    open_vocabulary: bool

    def scores(self, audio: Tensor, names: Sequence[str]) -> Tensor:
        """Cosines (T, N) float32 of the front end's rows (T, ...) and N names."""

    def probabilities(self, audio: Tensor, names: Sequence[str]) -> Tensor:
        """Probabilities (T, N) float32 of the names, each row of sum 1; arguments as above."""

    def spoken(self, name: str) -> str:
        """A name as text towers read it, without hyphens for example."""

    def text_embeddings(self, names: Sequence[str], show_progress: bool = False) -> Tensor:
        """Embeddings (N, D) float32 of length 1 of N names, which are remembered."""

    def truncated_words(self, vocabulary: Sequence[str]) -> list[str]:
        """Names and synonyms of a vocabulary whose ends it does not read."""


class BoxProposer(Protocol):
    """Part of :class:`~ovavss_mm.models.Sam4AVS`: finds boxes of names in frames."""

    def __call__(self, frames: Tensor, pairs: Sequence[tuple[int, str]]) -> list[InstanceData]:
        """Frames (T, 3, h, w) uint8 RGB and P pairs of a frame's place and a name: for each pair ``boxes`` (n, 4).

        Boxes are left, top, right and bottom in pixels of the frame, with ``scores`` (n,) in [0, 1].
        """

    def truncated_words(self, words: Sequence[str]) -> list[str]:
        """Those of some words whose ends it does not read."""


class BoxMasker(Protocol):
    """Part of :class:`~ovavss_mm.models.Sam4AVS`: masks of boxes."""

    def embed(self, frames: Tensor) -> Tensor:
        """Embeddings (T, ...) of frames (T, 3, h, w) uint8 RGB."""

    def __call__(
        self,
        embedding: Tensor,
        boxes: Tensor,
        frame_shape: tuple[int, int],
        masks: Tensor | None = None,
        out_shape: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits (n, H, W) float32, above 0 inside, of boxes (n, 4) in a frame of an embedding, and their IoU (n,).

        It may start from ``masks`` (n, hm, wm), logits over the frame; ``out_shape`` is (H, W), by default the frame's.
        """


class Painter(Protocol):
    """Blends windows that overlap at will into label maps; :class:`~.segmentors.windows.Blender`.

    Dense logits come as one pair for each class that is present, see :func:`~.segmentors.label_map.dense_pairs`.
    """

    def add(self, numbers: list[int], pairs: InstanceData) -> None:
        """Take T numbers of frames, and ``labels``, ``scores``, ``sound_scores`` (M,), ``masks`` (M, T, H, W) bool."""

    def take(self, before: int) -> object:
        """Yield number, label map (H, W) and evidence of each frame before ``before``, which no later window sees."""
