# SPDX-License-Identifier: Apache-2.0
"""Transformer decoder whose queries look at masked pixels, at each other and at the sound (paper section 3.4)."""

from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.transformer import MultiheadAttention
from mmdet.models.layers import Mask2FormerTransformerDecoder
from mmdet.models.layers.transformer.mask2former_layers import Mask2FormerTransformerDecoderLayer
from mmengine.model import BaseModule, ModuleList
from torch import Tensor


class AudioAttention(BaseModule):
    """Attention with residual and post-norm: queries to audio tokens, or audio tokens to each other.

    Args:
        attn_cfg: arguments of mmcv's ``MultiheadAttention``.
        norm_cfg: norm after the residual.
    """

    def __init__(self, attn_cfg: dict, norm_cfg: dict | None = None) -> None:
        super().__init__()
        self.attn = MultiheadAttention(**attn_cfg)
        self.norm = build_norm_layer(norm_cfg or dict(type='LN'), self.attn.embed_dims)[1]

    def forward(self, query: Tensor, key: Tensor, query_pos: Tensor, key_pos: Tensor) -> Tensor:
        """Attend.

        Args:
            query: (B, Q, C).
            key: (B, S, C); also the values, without positions.
            query_pos: (B, Q, C).
            key_pos: (B, S, C).

        Returns:
            (B, Q, C).
        """
        return self.norm(self.attn(query, key, key, query_pos=query_pos, key_pos=key_pos))


class AudioMaskDecoderLayer(Mask2FormerTransformerDecoderLayer):
    """Masked cross-attention, self-attention, audio cross-attention, FFN; post-norm."""

    def _init_layers(self) -> None:
        """The host's parts and the attention to audio, with the settings of the host's cross-attention."""
        super()._init_layers()
        self.audio_attn = AudioAttention(self.cross_attn_cfg, self.norm_cfg)

    def forward(
        self,
        query: Tensor,
        memory: Tensor,
        audio: Tensor,
        query_pos: Tensor,
        memory_pos: Tensor,
        audio_pos: Tensor,
        attn_mask: Tensor,
    ) -> Tensor:
        """One decoder block.

        Args:
            query: (B, Q, C).
            memory: (B, L, C) tokens of all T frames at one level.
            audio: (B, T, C) audio tokens.
            query_pos: positions of the queries, (B, Q, C).
            memory_pos: positions of the tokens, (B, L, C).
            audio_pos: positions of the audio tokens, (B, T, C).
            attn_mask: (B * heads, Q, L) bool, True = do not look.

        Returns:
            (B, Q, C).
        """
        query = self.cross_attn(
            query, memory, memory, query_pos=query_pos, key_pos=memory_pos, attn_mask=attn_mask
        )
        query = self.norms[0](query)
        query = self.self_attn(query, query, query, query_pos=query_pos, key_pos=query_pos)
        query = self.norms[1](query)
        query = self.audio_attn(query, audio, query_pos, audio_pos)
        return self.norms[2](self.ffn(query))


class AudioMaskDecoder(Mask2FormerTransformerDecoder):
    """The blocks, the first look at the audio, and the audio's look at itself."""

    def _init_layers(self) -> None:
        """As the host, with our blocks."""
        self.layers = ModuleList(
            [AudioMaskDecoderLayer(**self.layer_cfg) for _ in range(self.num_layers)]
        )
        self.embed_dims = self.layers[0].embed_dims
        self.post_norm = build_norm_layer(self.post_norm_cfg, self.embed_dims)[1]
        attn_cfg = self.layers[0].cross_attn_cfg
        self.num_heads = attn_cfg['num_heads']
        self.query_to_audio = AudioAttention(attn_cfg, self.layers[0].norm_cfg)
        self.audio_to_audio = AudioAttention(attn_cfg, self.layers[0].norm_cfg)
