# SPDX-License-Identifier: Apache-2.0
"""A small trainable audio encoder for worlds whose sounds VGGish has not learned."""

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, Sequential
from mmseg.registry import MODELS
from torch import Tensor, nn

from .vggish import check_audio


@MODELS.register_module()
class LogMelEncoder(BaseModule):
    """Four convolutions and a linear layer, of the same interface as :class:`VGGishEncoder`, trainable.

    Time is pooled away, frequency is kept until the linear layer: pitch is what tells sources apart.

    Args:
        channels (int): channels of the first convolution, a multiple of 4; each next has twice as many. Defaults to 16.
        out_channels (int): Da, size of the embedding. Defaults to 128.
        tokens (dict, optional): config of :class:`TimeTokens` or :class:`ClusterTokens`, which make several audio
            tokens a frame of the last map, without its sizes. None: one embedding. Defaults to None.
        init_cfg (dict, optional): as in mmengine. Defaults to None.

    Raises:
        ValueError: ``channels`` is no multiple of 4, or ``out_channels`` under 1.
    """

    def __init__(
        self, channels: int = 16, out_channels: int = 128, tokens: dict | None = None, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        if channels < 4 or channels % 4 or out_channels < 1:
            raise ValueError(
                f'channels must be a multiple of 4 and out_channels at least 1, got {channels}, {out_channels}'
            )
        self.out_channels = out_channels
        widths = [1, channels, 2 * channels, 4 * channels, 4 * channels]
        self.convs = Sequential(
            *[
                ConvModule(
                    a, b, 3, stride=(2, 2) if i < 3 else (2, 1), padding=1, norm_cfg=dict(type='GN', num_groups=4)
                )
                for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True))
            ]
        )
        sizes = dict(in_channels=widths[-1], bands=8, out_channels=out_channels)
        self.tokens = None if tokens is None else MODELS.build(dict(tokens, **sizes))
        self.embedding = nn.Linear(8 * widths[-1], out_channels) if tokens is None else None

    def forward(self, audio: Tensor) -> Tensor:
        """Embed log-mel patches.

        Args:
            audio (Tensor): (M, 1, 96, 64) float32, time x mel band.

        Returns:
            Tensor: (M, Da) float32, or (M, S, Da) with ``tokens``.

        Raises:
            ValueError: another shape.
        """
        # log-mel of silence is log(0.01) = -4.6: bring the usual range to about -1..1
        x = self.convs(check_audio(audio) / 4.6)  # (M, 4c, 6, 8)
        if self.tokens is not None:
            return self.tokens(x)
        return self.embedding(x.mean(2).flatten(1))  # (M, 4c, 8) -> (M, 4c * 8)
