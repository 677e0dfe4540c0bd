# SPDX-License-Identifier: Apache-2.0
"""CATR: queries of single frames, from tokens that sound and sight exchange over a window (paper Table 2)."""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.models.layers import DetrTransformerDecoder, SinePositionalEncoding
from mmengine.model import BaseModule, ModuleList
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.audio_prompts import init_matrices
from ..layers.catr_encoder import FrameEncoderLayer, LayerGate, MaskFeatures, TemporalLayer, encode_frames
from ..layers.refine_block import RefineBlock
from ..losses.frame_query_criterion import FrameQueryCriterion

IGNORED = 255  # label of pixels without annotation
SCORE_THR = 0.5  # of the best class of a pixel, which else is background
NUM_TEMPORAL_LAYERS = 3  # as the gate joins three


class FrameQueries(NamedTuple):
    """Predictions of the queries of M frames after each decoder layer.

    Attributes:
        class_logits (Tensor): (layers, M, Q, N + 1), 'no object' last; N = 1: sounding or not.
        mask_logits (Tensor): (layers, M, Q, h, w).
    """

    class_logits: Tensor
    mask_logits: Tensor


@MODELS.register_module()
class CATRHead(BaseModule):
    """A spatial and a temporal encoder of f8 and sound side by side, and queries that see one frame each.

    The queries attend to what the spatial encoder gives; masks are their products with what the temporal encoder gives.
    Clips are cut into windows of T' frames that do not see each other; one that T' does not divide is filled up with
    its last frame.

    Args:
        num_classes (int): 1, sounding or not, as published; or N, the names of training. Defaults to 1.
        channels (int): C of the maps, f4 to f32. Defaults to 256.
        audio_channels (int): Da. Defaults to 128.
        num_queries (int): Q. Defaults to 50.
        num_layers (int): of the spatial encoder and of the decoder. Defaults to 3.
        layer_cfg (dict, optional): ``num_heads``, ``feedforward_channels`` and ``dropout`` of all layers, ``with_cp``
            of those of the encoders, see :class:`FrameEncoderLayer`. Defaults to 8, 2048, 0.1 and False.
        window (int): T'. Defaults to 5.
        temporal_cfg (dict, optional): ``squared_product`` and ``first_frame_audio`` of :class:`TemporalLayer`, and
            ``shared_gate`` of :class:`LayerGate`. Defaults to the published ones.
        mask_levels (Sequence[int]): the two maps that mask features see, from 0 (f4); masks are of the second one's
            size. Defaults to (3, 2), f32 before f16, as published.
        mask_channels (int): of mask features and kernels. Defaults to 64.
        unused_positions (int, optional): as published, there are weights that nothing uses, some of them for this
            number of positions; None: there are none. Defaults to 15680.
        criterion (dict, optional): config of :class:`FrameQueryCriterion`; None for a model that only predicts.

    Raises:
        ValueError: a number under 1, or other than two known levels.
    """

    needs_audio = True
    counts_background = False  # in num_classes
    align_corners = False

    def __init__(
        self,
        num_classes: int = 1,
        channels: int = 256,
        audio_channels: int = 128,
        num_queries: int = 50,
        num_layers: int = 3,
        layer_cfg: dict | None = None,
        window: int = 5,
        temporal_cfg: dict | None = None,
        mask_levels: Sequence[int] = (3, 2),
        mask_channels: int = 64,
        unused_positions: int | None = 15680,
        criterion: dict | None = None,
    ) -> None:
        super().__init__()
        numbers = dict(num_classes=num_classes, num_queries=num_queries, num_layers=num_layers, window=window)
        numbers |= dict(mask_channels=mask_channels)
        if min(numbers.values()) < 1 or len(mask_levels) != 2 or not set(mask_levels) <= set(range(4)):
            raise ValueError(f'{numbers} must be at least 1, mask_levels two of 0 to 3, got {mask_levels}')
        self.num_classes, self.window, self.mask_levels = num_classes, window, tuple(mask_levels)
        self.out_channels = self.dense_classes = num_classes + (num_classes > 1)
        layer = dict(num_heads=8, feedforward_channels=2048, dropout=0.1) | (layer_cfg or {})
        encoder = dict(layer)
        layer.pop('with_cp', None)
        temporal = dict(temporal_cfg or {})
        self.gate = LayerGate(channels, temporal.pop('shared_gate', True))
        self.visual_proj = nn.Conv2d(channels, channels, 1)
        self.audio_proj = nn.Sequential(
            nn.Linear(audio_channels, channels), nn.LayerNorm(channels, eps=1e-12), nn.Dropout(layer['dropout'])
        )
        self.positions = SinePositionalEncoding(channels // 2, normalize=True)
        self.spatial_layers = ModuleList([FrameEncoderLayer(channels, **encoder) for _ in range(num_layers)])
        self.temporal_layers = ModuleList(
            [TemporalLayer(channels, **encoder, **temporal) for _ in range(NUM_TEMPORAL_LAYERS)]
        )
        self.decoder = _build_decoder(channels, num_layers, **layer)
        self.query_embed = nn.Embedding(num_queries, channels)
        self.mask_features = MaskFeatures(channels, mask_channels)
        self.class_head = nn.Linear(channels, num_classes + 1)
        self.kernel_head = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, mask_channels)
        )
        heads = layer['num_heads']
        self.unused = None if unused_positions is None else unused_parts(channels, heads, window, unused_positions)
        self.criterion = None if criterion is None else FrameQueryCriterion(**criterion)

    def init_weights(self) -> None:
        """Xavier in the matrices of encoders, gate and decoder; the rest as PyTorch or the parts themselves draw it."""
        for part in (self.spatial_layers, self.temporal_layers, self.gate, self.decoder):
            init_matrices(part)
        self.mask_features.init_weights()

    # ------------------------------------------------------------------ network
    def forward(self, x: tuple[Sequence[Tensor], Tensor], frames: Tensor | None = None) -> FrameQueries:
        """Predictions of the queries.

        Args:
            x (tuple[Sequence[Tensor], Tensor]): maps f4 to f32, each (B * T, C, h, w), and audio (B, T, Da).
            frames (Tensor, optional): (M,) int64, the frames of B * T that are wanted; what the others do not see is
                not computed for these. None: all.

        Returns:
            FrameQueries: of M frames.
        """
        feats, audio = x
        if audio.ndim == 4:
            audio = audio.mean(2)  # (B, T, S, Da) -> (B, T, Da)
        if audio.shape[1] % self.window:
            text = f'CATR: the last window of clips of {audio.shape[1]} frames is filled up with the last frame'
            warnings.warn(f'{text}, as windows have {self.window}', stacklevel=2)
        kept = torch.arange(-(-audio.shape[1] // self.window) * self.window).clamp(max=audio.shape[1] - 1)
        repeated = len(kept) > audio.shape[1]
        at = torch.arange(audio.shape[:2].numel(), device=audio.device) if frames is None else frames  # of B * T
        visual, tokens, pos = self.embed(feats[1], audio, kept)
        # of a frame in B * T: its place among the frames of all windows
        place = at // audio.shape[1] * len(kept) + at % audio.shape[1] if repeated else at
        memory = self.spatial_memory(visual, tokens, pos, place)
        maps = self.temporal_maps(visual, tokens, pos, feats[1].shape[-2:])
        features = self.mask_features(self.gate(maps)[place], [feats[i][at] for i in self.mask_levels])
        return self.decode(memory, pos, features)

    def embed(self, level: Tensor, audio: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Visual tokens (W, T', L, C), audio tokens (W, T', C) and positions (1, L, C).

        Args:
            level (Tensor): f8, (B * T, C, h8, w8).
            audio (Tensor): (B, T, Da).
            kept (Tensor): int64, the frames of T of which the windows of a clip are made.
        """
        visual = self.visual_proj(level).flatten(2).mT.unflatten(0, audio.shape[:2])  # (B, T, L, C)
        tokens = self.audio_proj(audio)  # (B, T, C)
        if len(kept) > audio.shape[1]:
            visual, tokens = visual[:, kept], tokens[:, kept]
        visual, tokens = (part.unflatten(1, (-1, self.window)).flatten(0, 1) for part in (visual, tokens))
        mask = level.new_zeros((1, *level.shape[-2:]), dtype=torch.bool)
        return visual, tokens, self.positions(mask).to(visual.dtype).flatten(2).mT

    def spatial_memory(self, visual: Tensor, audio: Tensor, pos: Tensor, frames: Tensor) -> Tensor:
        """Memory (M, L + T', C) of M frames of the windows; every frame has all audio tokens of its window."""
        window = frames // self.window
        visual = visual.flatten(0, 1)[frames][:, None]  # (M, 1, L, C)
        return encode_frames(self.spatial_layers, visual, audio[window], pos).flatten(0, 1)

    def temporal_maps(self, visual: Tensor, audio: Tensor, pos: Tensor, shape: tuple[int, ...]) -> list[Tensor]:
        """Visual maps (W * T', C, h8, w8) after each temporal layer."""
        maps = []
        for i, layer in enumerate(self.temporal_layers):
            visual, audio = layer(visual, audio, pos, with_audio=i + 1 < len(self.temporal_layers))
            maps.append(visual.flatten(0, 1).mT.unflatten(2, shape))
        return maps

    def decode(self, memory: Tensor, pos: Tensor, features: Tensor) -> FrameQueries:
        """Predictions for memory (M, L + T', C), positions (1, L, C) and mask features (M, c, h, w)."""
        query_pos = self.query_embed.weight.expand(len(memory), -1, -1)
        key_pos = F.pad(pos, [0, 0, 0, memory.shape[1] - pos.shape[1]]).expand(len(memory), -1, -1)
        content = torch.zeros_like(query_pos)
        queries = self.decoder(content, memory, memory, query_pos, key_pos, None)  # (layers, M, Q, C)
        masks = torch.einsum('lmqc,mchw->lmqhw', self.kernel_head(queries), features)
        return FrameQueries(self.class_head(queries), masks)

    # ------------------------------------------------------------------ training and testing
    def loss(
        self, x: tuple[Sequence[Tensor], Tensor], data_samples: list[SegDataSample], train_cfg: object = None
    ) -> dict[str, Tensor]:
        """Losses of B clips, over all their annotated frames.

        Args:
            x (tuple[Sequence[Tensor], Tensor]): as of :meth:`forward`.
            data_samples (list[SegDataSample]): B samples with ``gt_sem_seg`` (T, H, W) of one size, 255 where nothing
                is annotated.
            train_cfg (object): not used; mmseg's signature. Defaults to None.

        Returns:
            dict[str, Tensor]: ``loss_cls``, ``loss_focal``, ``loss_dice``, ``loss_bce`` of the last layer,
            ``d0.loss_cls`` ... of earlier ones.

        Raises:
            ValueError: there is no criterion.
        """
        if self.criterion is None:
            raise ValueError('this head has no criterion: set decode_head.criterion to train')
        labels = torch.stack([sample.gt_sem_seg.data for sample in data_samples]).flatten(0, 1)  # (B * T, H, W)
        annotated = (labels != IGNORED).flatten(1).any(1).nonzero()[:, 0]
        losses = self.criterion(*self(x, annotated), labels[annotated].long())
        last = {name: value[-1] for name, value in losses.items()}
        return last | {f'd{i}.{k}': v for k, values in losses.items() for i, v in enumerate(values[:-1])}

    def predict(
        self, x: tuple[Sequence[Tensor], Tensor], batch_img_metas: object = None, test_cfg: object = None
    ) -> Tensor:
        """Dense logits of the last layer.

        Args:
            x (tuple[Sequence[Tensor], Tensor]): as of :meth:`forward`.
            batch_img_metas (object): not used; mmseg's signature. Defaults to None.
            test_cfg (object): not used; mmseg's signature. Defaults to None.

        Returns:
            Tensor: with one class (B, T, 1, h, w), the mask logits of each frame's best query. With N classes
            (B, T, N + 1, 4 h, 4 w), the log of what the queries say of each class and, for background, of 0.5.
        """
        classes, masks = (part[-1].float() for part in self(x))
        scores = classes.softmax(-1)[..., :-1]  # (M, Q, N)
        if self.num_classes == 1:
            best = scores[..., 0].argmax(1)
            logits = masks[torch.arange(len(masks), device=masks.device), best][:, None]
        else:
            frames = zip(scores, masks.split(1), strict=True)  # Q masks at four times the size are large
            logits = torch.stack([class_logits(*frame) for frame in frames])
        return logits.unflatten(0, x[1].shape[:2])


def class_logits(scores: Tensor, masks: Tensor) -> Tensor:
    """Dense logits (N + 1, 4 h, 4 w) of class scores (Q, N) and mask logits (1, Q, h, w) of a frame."""
    masks = F.interpolate(masks, scale_factor=4, mode='bilinear', align_corners=False)[0].sigmoid()
    evidence = torch.einsum('qn,qhw->nhw', scores, masks).clamp(min=1e-6).log()
    return torch.cat([torch.full_like(evidence[:1], math.log(SCORE_THR)), evidence])


def unused_parts(channels: int, num_heads: int, window: int, positions: int) -> nn.ModuleDict:
    """The weights in published checkpoints that nothing uses, but for those of ``ctx1``."""
    return nn.ModuleDict(
        dict(
            paths=nn.ModuleList([RefineBlock(channels) for _ in range(4)]),
            fusions=nn.ModuleList([nn.MultiheadAttention(channels, num_heads) for _ in range(3)]),
            projs=nn.ModuleList([nn.Conv2d(window, positions, 1) for _ in range(3 + 2 * NUM_TEMPORAL_LAYERS)]),
        )
    )


def _build_decoder(
    channels: int, num_layers: int, num_heads: int, feedforward_channels: int, dropout: float
) -> DetrTransformerDecoder:
    """DETR's decoder, which gives the normed queries of all layers."""
    drop = dict(type='Dropout', drop_prob=dropout)
    attn = dict(embed_dims=channels, num_heads=num_heads, attn_drop=dropout, batch_first=True, dropout_layer=drop)
    ffn = dict(embed_dims=channels, feedforward_channels=feedforward_channels, num_fcs=2, ffn_drop=dropout)
    return DetrTransformerDecoder(num_layers, dict(self_attn_cfg=attn, cross_attn_cfg=dict(attn), ffn_cfg=ffn))
