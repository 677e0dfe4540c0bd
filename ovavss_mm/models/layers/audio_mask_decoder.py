# SPDX-License-Identifier: Apache-2.0
"""Audio-conditioned Transformer decoder (AudioMaskDec, paper section 3.3, Figure 3)."""

from typing import Any

from mmcv.cnn import build_norm_layer
from mmdet.models.layers import Mask2FormerTransformerDecoder
from mmdet.models.layers.transformer.mask2former_layers import Mask2FormerTransformerDecoderLayer
from mmengine.model import ModuleList
from mmseg.registry import MODELS
from torch import Tensor

from .audio_prompts import AudioAttention, init_matrices


class AudioMaskDecoderLayer(Mask2FormerTransformerDecoderLayer):
    """Masked cross-attention, self-attention, audio cross-attention, FFN; post-norm.

    Args:
        with_audio_attn (bool): whether there is a cross-attention to audio. Defaults to True.
        **kwargs: of mmdet's layer.
    """

    def __init__(self, with_audio_attn: bool = True, **kwargs: Any) -> None:
        self.with_audio_attn = with_audio_attn
        super().__init__(**kwargs)

    def _init_layers(self) -> None:
        """Build mmdet's parts and the attention to audio, with the settings of the cross-attention."""
        super()._init_layers()
        if self.with_audio_attn:
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
        """Run one decoder block.

        Args:
            query (Tensor): (B, Q, C).
            memory (Tensor): (B, L, C) tokens of all T frames at one level.
            audio (Tensor, optional): (B, T * S, C) audio tokens, for a layer that attends to audio.
            query_pos (Tensor): positions of the queries, (B, Q, C).
            memory_pos (Tensor): positions of the tokens, (B, L, C).
            audio_pos (Tensor, optional): positions of the audio tokens, (B, T * S, C).
            attn_mask (Tensor): (B * heads, Q, L) bool, True = do not attend.

        Returns:
            Tensor: (B, Q, C).
        """
        query = self.cross_attn(query, memory, memory, query_pos=query_pos, key_pos=memory_pos, attn_mask=attn_mask)
        query = self.norms[0](query)
        query = self.self_attn(query, query, query, query_pos=query_pos, key_pos=query_pos)
        query = self.norms[1](query)
        if self.with_audio_attn:
            query = self.audio_attn(query, audio, query_pos, audio_pos)
        return self.norms[2](self.ffn(query))


@MODELS.register_module()
class AudioMaskDecoder(Mask2FormerTransformerDecoder):
    """The decoder's blocks and its audio prompt.

    Args:
        audio_prompt (dict, optional): config of the prompt (paper Table 4): ``AudioMaskDecPrompt``,
            ``CrossAttentionPrompt``, ``ConcatAddPrompt`` or ``NoAudioPrompt``. Defaults to the first.
        **kwargs: of mmdet's decoder.

    Raises:
        ValueError: an unknown prompt.
    """

    def __init__(self, audio_prompt: dict | None = None, **kwargs: Any) -> None:
        self.audio_prompt_cfg = audio_prompt or dict(type='AudioMaskDecPrompt')
        super().__init__(**kwargs)

    def _init_layers(self) -> None:
        """Build the blocks and the prompt."""
        kind = self.audio_prompt_cfg['type']
        prompt = MODELS.get(kind) if isinstance(kind, str) else kind
        if prompt is None:
            raise ValueError(f'audio_prompt.type must be a registered audio prompt, got {kind!r}')
        self.layers = ModuleList(
            [
                AudioMaskDecoderLayer(**self.layer_cfg, with_audio_attn=prompt.with_audio_attn)
                for _ in range(self.num_layers)
            ]
        )
        self.embed_dims = self.layers[0].embed_dims
        self.post_norm = build_norm_layer(self.post_norm_cfg, self.embed_dims)[1]
        attn_cfg, norm_cfg = self.layers[0].cross_attn_cfg, self.layers[0].norm_cfg
        self.num_heads = attn_cfg['num_heads']
        common = dict(attn_cfg=attn_cfg, norm_cfg=norm_cfg, num_layers=self.num_layers)
        self.audio_prompt = MODELS.build(dict(self.audio_prompt_cfg, **common))

    def init_weights(self) -> None:
        """Xavier in all matrices, as in Mask2Former; the prompt by itself."""
        init_matrices(self.layers)
        self.audio_prompt.init_weights()
