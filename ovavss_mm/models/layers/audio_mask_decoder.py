# SPDX-License-Identifier: Apache-2.0
"""Transformer decoder whose queries look at masked pixels, at each other and at the sound (paper section 3.4)."""

from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.transformer import MultiheadAttention
from mmdet.models.layers import Mask2FormerTransformerDecoder
from mmdet.models.layers.transformer.mask2former_layers import Mask2FormerTransformerDecoderLayer
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

AUDIO_PROMPTS = ('none', 'concat_add', 'cross_attention', 'audio_mask_dec')
AUDIO_SELF_ATTNS = ('shared', 'per_layer')


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
    """Masked cross-attention, self-attention, audio cross-attention, FFN; post-norm.

    Args:
        listens: whether there is a cross-attention to audio.
        kwargs: of the host's layer.
    """

    def __init__(self, listens: bool = True, **kwargs) -> None:
        self.listens = listens
        super().__init__(**kwargs)

    def _init_layers(self) -> None:
        """The host's parts and the attention to audio, with the settings of the host's cross-attention."""
        super()._init_layers()
        if self.listens:
            self.audio_attn = AudioAttention(self.cross_attn_cfg, self.norm_cfg)

    def forward(
        self,
        query: Tensor,
        memory: Tensor,
        audio: Tensor | None,
        query_pos: Tensor,
        memory_pos: Tensor,
        audio_pos: Tensor | None,
        attn_mask: Tensor,
    ) -> Tensor:
        """One decoder block.

        Args:
            query: (B, Q, C).
            memory: (B, L, C) tokens of all T frames at one level.
            audio: (B, T, C) audio tokens; not used by a layer that does not listen.
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
        if self.listens:
            query = self.audio_attn(query, audio, query_pos, audio_pos)
        return self.norms[2](self.ffn(query))


class AudioMaskDecoder(Mask2FormerTransformerDecoder):
    """The blocks, the first look at the audio, and the audio's look at itself.

    Args:
        audio_prompt: how queries hear (paper table 4). ``'audio_mask_dec'``: cross-attention before the layers and in
            each of them; ``'cross_attention'``: before the layers only; ``'concat_add'``: the head adds the joined
            audio to the queries' positions; ``'none'``: they do not.
        audio_self_attn: of ``'audio_mask_dec'``: ``'shared'``, audio tokens attend to each other once before the
            layers; ``'per_layer'``, before each layer, with weights of its own (as the paper's figure 3 can be read).
        kwargs: of the host's decoder.

    Raises:
        ValueError: an unknown ``audio_prompt`` or ``audio_self_attn``.
    """

    def __init__(
        self, audio_prompt: str = 'audio_mask_dec', audio_self_attn: str = 'shared', **kwargs
    ) -> None:
        if audio_prompt not in AUDIO_PROMPTS or audio_self_attn not in AUDIO_SELF_ATTNS:
            raise ValueError(
                f'audio_prompt must be of {AUDIO_PROMPTS}, audio_self_attn of {AUDIO_SELF_ATTNS}, '
                f'got {audio_prompt!r}, {audio_self_attn!r}'
            )
        self.audio_prompt, self.audio_self_attn = audio_prompt, audio_self_attn
        super().__init__(**kwargs)

    @property
    def has_audio_tokens(self) -> bool:
        """Whether queries attend to audio tokens."""
        return self.audio_prompt in ('cross_attention', 'audio_mask_dec')

    def _init_layers(self) -> None:
        """As the host, with our blocks."""
        in_layers = self.audio_prompt == 'audio_mask_dec'
        self.layers = ModuleList(
            [
                AudioMaskDecoderLayer(**self.layer_cfg, listens=in_layers)
                for _ in range(self.num_layers)
            ]
        )
        self.embed_dims = self.layers[0].embed_dims
        self.post_norm = build_norm_layer(self.post_norm_cfg, self.embed_dims)[1]
        attn_cfg, norm_cfg = self.layers[0].cross_attn_cfg, self.layers[0].norm_cfg
        self.num_heads = attn_cfg['num_heads']
        if self.has_audio_tokens:
            self.query_to_audio = AudioAttention(attn_cfg, norm_cfg)
        if in_layers and self.audio_self_attn == 'shared':
            self.audio_to_audio = AudioAttention(attn_cfg, norm_cfg)
        elif in_layers:
            self.audio_to_audio = ModuleList(
                [AudioAttention(attn_cfg, norm_cfg) for _ in range(self.num_layers)]
            )

    def listen_first(
        self, query: Tensor, audio: Tensor | None, query_pos: Tensor, audio_pos: Tensor | None
    ) -> Tensor:
        """Queries (B, Q, C) before the first layer: they have attended to audio tokens (B, T, C), if there are any."""
        if not self.has_audio_tokens:
            return query
        return self.query_to_audio(query, audio, query_pos, audio_pos)

    def audio_for(
        self, layer: int, audio: Tensor | None, audio_pos: Tensor | None
    ) -> Tensor | None:
        """Audio tokens (B, T, C) for a layer, of those for the layer before it."""
        if self.audio_prompt != 'audio_mask_dec':
            return audio
        if self.audio_self_attn == 'per_layer':
            return self.audio_to_audio[layer](audio, audio, audio_pos, audio_pos)
        return self.audio_to_audio(audio, audio, audio_pos, audio_pos) if layer == 0 else audio
