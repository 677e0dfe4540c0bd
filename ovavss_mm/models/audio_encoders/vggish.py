# SPDX-License-Identifier: Apache-2.0
"""VGGish, the frozen audio encoder (paper section 3.2)."""

from mmseg.registry import MODELS
from torch import Tensor

from ..layers.frozen import FrozenModule


@MODELS.register_module()
class VGGishEncoder(FrozenModule):
    """VGGish of the ``torchvggish`` package: raw 128-d embeddings, no PCA, frozen.

    Args:
        init_cfg (dict, optional): ``dict(type='Pretrained', checkpoint='.../vggish-10086976.pth')``, or None for drawn
            weights. Defaults to None.
        final_relu (bool): whether embeddings end with torchvggish's ReLU; GAVS was trained without it. Defaults to
            True.
        tokens (dict, optional): config of :class:`TimeTokens` or :class:`ClusterTokens`, which make several audio
            tokens a frame of the last map of 512 x 6 x 4, without its sizes; they are trained. None: one embedding.
            Defaults to None.
    """

    out_channels = 128

    def __init__(self, init_cfg: dict | None = None, final_relu: bool = True, tokens: dict | None = None) -> None:
        super().__init__(init_cfg)
        # torchvggish imports numba through its front end: two seconds that only this encoder's users pay
        from torchvggish.torchvggish import VGG, make_layers

        self.vggish = VGG(make_layers(), postprocess=False)
        if not final_relu:
            self.vggish.embeddings = self.vggish.embeddings[:-1]
        self.freeze()
        # after the freezing, as these are trained
        self.tokens = None if tokens is None else MODELS.build(dict(tokens, in_channels=512, bands=4, out_channels=128))

    def convert_state_dict(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Keys of torchvggish's release, ``features.0.weight``, to ours."""
        return {f'vggish.{key}': value for key, value in state.items()}

    def forward(self, audio: Tensor) -> Tensor:
        """Embed log-mel patches; embeddings that were extracted before pass unchanged.

        Args:
            audio (Tensor): (M, 1, 96, 64) float32 log-mel patches of 0.96 s at 16 kHz, or (M, 128) embeddings.

        Returns:
            Tensor: (M, 128) float32 embeddings, 0 or greater with ``final_relu``; (M, S, 128) with ``tokens``.

        Raises:
            ValueError: another shape; embeddings where ``tokens`` needs the map of which they were made.
        """
        if self.tokens is not None:
            if audio.ndim == 2:
                raise ValueError('tokens are made of the map of VGGish, not of extracted embeddings: use LoadClipAudio')
            return self.tokens(self.vggish.features(check_audio(audio)))
        audio = check_audio(audio, self.out_channels)
        return audio if audio.ndim == 2 else self.vggish(audio)


def check_audio(audio: Tensor, channels: int | None = None) -> Tensor:
    """Return ``audio`` if it is (M, 1, 96, 64), or (M, channels) where channels is given; else ValueError."""
    embeddings = None if channels is None else (channels,)
    if audio.shape[1:] not in ((1, 96, 64), embeddings):
        also = '' if channels is None else f' or (M, {channels}) embeddings'
        raise ValueError(f'audio must be (M, 1, 96, 64) log-mel patches{also}, got {tuple(audio.shape)}')
    return audio
