# SPDX-License-Identifier: Apache-2.0
"""The encoders of CATR (paper Table 2): of the tokens of a frame, and of visual and audio tokens of a window."""

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import ModuleList
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class FrameEncoderLayer(nn.Module):
    """Post-norm self-attention and FFN, as in DETR.

    Where PyTorch has no kernel of its own for attention with dropout (on a CPU), attention keeps matrices of L x L a
    head and frame in training: at 448 x 448 several GB a layer and window. ``with_cp`` keeps none.

    Args:
        channels (int): C.
        num_heads (int): of the attention. Defaults to 8.
        feedforward_channels (int): of the FFN. Defaults to 2048.
        dropout (float): in attention, FFN and residuals. Defaults to 0.1.
        with_cp (bool): whether to save memory in training: each frame is encoded by itself, and again in the backward
            pass. Defaults to False.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        feedforward_channels: int = 2048,
        dropout: float = 0.1,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.attn = nn.MultiheadAttention(channels, num_heads, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.ffn = FFN(channels, feedforward_channels, ffn_drop=dropout)
        self.norms = nn.ModuleList([nn.LayerNorm(channels) for _ in range(2)])

    def forward(self, x: Tensor, pos: Tensor) -> Tensor:
        """Encode tokens (M, L, C) with positions (1, L, C)."""
        if self.with_cp and torch.is_grad_enabled():
            return torch.cat([checkpoint(self._encode, frame, pos, use_reentrant=False) for frame in x.split(1)])
        return self._encode(x, pos)

    def _encode(self, x: Tensor, pos: Tensor) -> Tensor:
        """See :meth:`forward`."""
        query = x + pos
        attended, _ = self.attn(query, query, x, need_weights=False)
        return self.norms[1](self.ffn(self.norms[0](x + self.dropout(attended))))


class TemporalLayer(nn.Module):
    """A frame encoder layer, then visual and audio tokens of a window, each multiplied by what it attends to.

    Args:
        channels (int): C.
        num_heads (int): of all attentions. Defaults to 8.
        squared_product (bool): whether tokens are multiplied twice, as published; else once. Defaults to True.
        first_frame_audio (bool): whether the audio tokens go on as they stand in the window's first frame, as
            published; else their mean over frames does. Defaults to True.
        **kwargs: of :class:`FrameEncoderLayer`.
    """

    def __init__(
        self, channels: int, num_heads: int = 8, squared_product: bool = True, first_frame_audio: bool = True, **kwargs
    ) -> None:
        super().__init__()
        self.squared_product, self.first_frame_audio = squared_product, first_frame_audio
        self.encoder = FrameEncoderLayer(channels, num_heads, **kwargs)
        self.visual_attn, self.audio_attn = (
            nn.MultiheadAttention(channels, num_heads, batch_first=True) for _ in range(2)
        )

    def forward(
        self, visual: Tensor, audio: Tensor, pos: Tensor, with_audio: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Encode W windows of T' frames.

        Args:
            visual (Tensor): (W, T', L, C).
            audio (Tensor): (W, S, C), the same in each frame.
            pos (Tensor): (1, L, C), positions of the visual tokens.
            with_audio (bool): False: skip the audio tokens where nothing reads them. Defaults to True.

        Returns:
            tuple: visual tokens (W, T', L, C) and audio tokens (W, S, C).
        """
        frames, length = visual.shape[1:3]
        tokens = encode_frames([self.encoder], visual, audio, pos)  # (W, T', L + S, C)
        visual = tokens[:, :, :length].flatten(1, 2)  # (W, T' * L, C)
        audio = tokens[:, :, length:]
        audio = audio[:, 0] if self.first_frame_audio else audio.mean(1)
        visual = self._multiply(visual, self.visual_attn(visual, audio, audio, need_weights=False)[0])
        if with_audio:
            keys = visual + pos.repeat(1, frames, 1)
            audio = self._multiply(audio, self.audio_attn(audio, keys, visual, need_weights=False)[0])
        return visual.unflatten(1, (frames, length)), audio if with_audio else None

    def _multiply(self, x: Tensor, attended: Tensor) -> Tensor:
        """The product of tokens with what they attended to, of one shape."""
        return x * attended * attended if self.squared_product else x * attended


class LayerGate(nn.Module):
    """Joins the visual maps of the three temporal layers by gates that are one number a frame.

    Args:
        channels (int): C.
        shared_gate (bool): whether the third map has the gate of the first two, by a second sigmoid, as published; else
            one of its own, of the last two. Defaults to True.
    """

    def __init__(self, channels: int, shared_gate: bool = True) -> None:
        super().__init__()
        self.shared_gate = shared_gate
        self.conv = nn.Conv2d(2 * channels, 2, 3, padding=1)
        self.second, self.third = (
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.PReLU())
            for _ in range(2)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Join three maps (M, C, h, w)."""
        gate = self.gate(*maps[:2])
        last = gate.sigmoid() if self.shared_gate else self.gate(*maps[1:])
        return self.third(self.gated(gate, maps[1]) + last.mean(1)[:, None, None, None] * maps[2])

    def gate(self, one: Tensor, other: Tensor) -> Tensor:
        """Two gates a frame, (M, 2) in [0, 1], of two maps (M, C, h, w)."""
        return self.conv(torch.cat([one, other], 1)).sigmoid().mean((2, 3))

    def gated(self, gate: Tensor, second: Tensor) -> Tensor:
        """The second map (M, C, h, w) times the first of the gates (M, 2), and its convolution."""
        return self.second(gate[:, 0, None, None, None] * second)


class MaskFeatures(nn.Module):
    """Features of masks from the memory at f8 and two maps, at the size of the last one.

    Args:
        channels (int): C, a multiple of 64.
        out_channels (int): of the features. Defaults to 64.

    Raises:
        ValueError: C is no multiple of 64.
    """

    def __init__(self, channels: int, out_channels: int = 64) -> None:
        super().__init__()
        if channels % 64:
            raise ValueError(f'channels must be a multiple of 64, got {channels}')
        sizes = [channels, channels, channels // 2, channels // 4, channels // 8]
        norm = dict(type='GN', num_groups=8)
        self.convs = ModuleList(
            [ConvModule(a, b, 3, padding=1, bias=True, norm_cfg=norm) for a, b in zip(sizes, sizes[1:], strict=False)]
        )
        self.adapters = nn.ModuleList([nn.Conv2d(channels, c, 1) for c in sizes[2:4]])
        self.out = nn.Conv2d(sizes[4], out_channels, 3, padding=1)

    def init_weights(self) -> None:
        """Kaiming uniform weights with a = 1, biases 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)

    def forward(self, memory: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Features (M, out_channels, h, w) of a memory (M, C, h8, w8) and two maps (M, C, ...), the last of h x w."""
        x = self.convs[1](self.convs[0](memory))
        for conv, adapter, level in zip(self.convs[2:], self.adapters, maps, strict=True):
            x = conv(F.interpolate(x, level.shape[-2:], mode='nearest') + adapter(level))
        return self.out(x)


def encode_frames(layers: Sequence[FrameEncoderLayer], visual: Tensor, audio: Tensor, pos: Tensor) -> Tensor:
    """Encode the tokens of each frame by themselves.

    Args:
        layers (Sequence[FrameEncoderLayer]): one after the other.
        visual (Tensor): (W, T', L, C).
        audio (Tensor): (W, S, C), the same in each frame.
        pos (Tensor): (1, L, C), positions of the visual tokens; audio tokens have none.

    Returns:
        Tensor: (W, T', L + S, C), visual tokens first.
    """
    windows, frames = visual.shape[:2]
    tokens = torch.cat([visual, audio[:, None].expand(-1, frames, -1, -1)], 2).flatten(0, 1)  # (W * T', L + S, C)
    pos = F.pad(pos, [0, 0, 0, audio.shape[1]])
    for layer in layers:
        tokens = layer(tokens, pos)
    return tokens.unflatten(0, (windows, frames))
