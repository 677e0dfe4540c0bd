# SPDX-License-Identifier: Apache-2.0
"""Audio prompts: how audio conditions the queries of the mask decoder (paper section 3.3, Figure 3, Table 4)."""

from typing import Any

from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.transformer import MultiheadAttention
from mmengine.model import BaseModule, ModuleList
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

AUDIO_SELF_ATTNS = ('shared', 'per_layer')


class AudioAttention(BaseModule):
    """Attention with residual and post-norm: queries to audio tokens, or audio tokens to each other.

    Args:
        attn_cfg (dict): arguments of mmcv's ``MultiheadAttention``.
        norm_cfg (dict, optional): norm after the residual. Defaults to LN.
    """

    def __init__(self, attn_cfg: dict, norm_cfg: dict | None = None) -> None:
        super().__init__()
        self.attn = MultiheadAttention(**attn_cfg)
        self.norm = build_norm_layer(norm_cfg or dict(type='LN'), self.attn.embed_dims)[1]

    def forward(self, query: Tensor, key: Tensor, query_pos: Tensor, key_pos: Tensor) -> Tensor:
        """Attend.

        Args:
            query (Tensor): (B, Q, C).
            key (Tensor): (B, S, C); also the values, without positions.
            query_pos (Tensor): (B, Q, C).
            key_pos (Tensor): (B, S, C).

        Returns:
            Tensor: (B, Q, C).
        """
        return self.norm(self.attn(query, key, key, query_pos=query_pos, key_pos=key_pos))


@MODELS.register_module()
class NoAudioPrompt(BaseModule):
    """Queries without audio (paper Table 4, 'none'); the base of the other prompts.

    Args:
        attn_cfg (dict): of the decoder's cross-attention.
        norm_cfg (dict, optional): of the decoder's norms.
        num_layers (int): of the decoder.

    Attributes:
        needs_audio (bool): whether the prompt cannot do without audio.
        with_tokens (bool): whether queries attend to audio tokens.
        with_audio_attn (bool): whether they do so in each layer.
    """

    needs_audio = with_tokens = with_audio_attn = False

    def __init__(self, attn_cfg: dict, norm_cfg: dict | None, num_layers: int) -> None:
        super().__init__()
        self.embed_dims = attn_cfg['embed_dims']

    def init_audio(self, num_frames: int, audio_channels: int) -> None:
        """Build the layers whose sizes are T of training and Da; the head calls this once, after its own layers."""

    def init_weights(self) -> None:
        """Xavier in all matrices, as in the decoder's layers."""
        init_matrices(self)

    def query_positions(self, query_pos: Tensor, audio: Tensor) -> Tensor:
        """Positions (B, Q, C) of the queries, of the learned ones and of audio (B, T * S, Da)."""
        return query_pos

    def init_queries(self, query: Tensor, audio: Tensor | None, query_pos: Tensor, audio_pos: Tensor | None) -> Tensor:
        """Queries (B, Q, C) before the first layer, with audio tokens (B, T * S, C)."""
        return query

    def update_audio(self, layer: int, audio: Tensor | None, audio_pos: Tensor | None) -> Tensor | None:
        """Audio tokens (B, T * S, C) for a layer, of those for the layer before it."""
        return audio


@MODELS.register_module()
class ConcatAddPrompt(NoAudioPrompt):
    """The audio of all frames is concatenated, projected and added to each query's position ('concat + add').

    Clips of another T than in training are interpolated. Arguments are those of :class:`NoAudioPrompt`.
    """

    needs_audio = True

    def init_audio(self, num_frames: int, audio_channels: int) -> None:
        """Build the projection, see the base class."""
        self.num_frames = num_frames
        self.audio_join = nn.Linear(num_frames * audio_channels, self.embed_dims)

    def init_weights(self) -> None:
        """Keep the start of ``nn.Linear``: the projection is none of the decoder's attentions."""

    def query_positions(self, query_pos: Tensor, audio: Tensor) -> Tensor:
        """Add the audio, see the base class."""
        joined = interpolate_time(audio, self.num_frames).flatten(1)  # (B, num_frames * Da)
        return query_pos + self.audio_join(joined).unsqueeze(1)


@MODELS.register_module()
class CrossAttentionPrompt(NoAudioPrompt):
    """Queries attend to the audio once, before the first layer ('cross-attention').

    Args:
        **kwargs: see :class:`NoAudioPrompt`.
    """

    needs_audio = with_tokens = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.query_audio_attn = AudioAttention(kwargs['attn_cfg'], kwargs['norm_cfg'])

    def init_queries(self, query: Tensor, audio: Tensor | None, query_pos: Tensor, audio_pos: Tensor | None) -> Tensor:
        """Let the queries attend to the audio, see the base class."""
        return self.query_audio_attn(query, audio, query_pos, audio_pos)


@MODELS.register_module()
class AudioMaskDecPrompt(CrossAttentionPrompt):
    """Queries attend to the audio before the layers and in each of them, audio tokens to each other ('AudioMaskDec').

    Args:
        audio_self_attn (str): ``'shared'``, audio tokens attend to each other once before the layers; ``'per_layer'``,
            before each layer, with weights of its own (as Figure 3 can be read). Defaults to 'shared'.
        **kwargs: see :class:`NoAudioPrompt`.

    Raises:
        ValueError: an unknown ``audio_self_attn``.
    """

    with_audio_attn = True

    def __init__(self, audio_self_attn: str = 'shared', **kwargs: Any) -> None:
        if audio_self_attn not in AUDIO_SELF_ATTNS:
            raise ValueError(f'audio_self_attn must be of {AUDIO_SELF_ATTNS}, got {audio_self_attn!r}')
        super().__init__(**kwargs)
        count = 1 if audio_self_attn == 'shared' else kwargs['num_layers']
        attentions = [AudioAttention(kwargs['attn_cfg'], kwargs['norm_cfg']) for _ in range(count)]
        self.audio_self_attn = ModuleList(attentions)

    def update_audio(self, layer: int, audio: Tensor | None, audio_pos: Tensor | None) -> Tensor | None:
        """Let the audio tokens attend to each other, see the base class."""
        if layer >= len(self.audio_self_attn):
            return audio
        return self.audio_self_attn[layer](audio, audio, audio_pos, audio_pos)


def init_matrices(module: nn.Module) -> None:
    """Xavier in all of a module's matrices, as in Mask2Former."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


def interpolate_time(rows: Tensor, frames: int) -> Tensor:
    """Interpolate rows (B, T, c) linearly for another T."""
    return F.interpolate(rows.mT, size=frames, mode='linear', align_corners=False).mT
