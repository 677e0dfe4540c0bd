# SPDX-License-Identifier: Apache-2.0
"""Temporal pixel-wise audio-visual interaction (TPAVI, paper Table 2), in time and memory linear in the pixels."""

from torch import Tensor, nn


class TPAVIBlock(nn.Module):
    """Every pixel of a window of frames attends, without softmax, to all positions of the window.

    With ``A = align(audio)``, the same at each pixel of a frame, TPAVI is
    ``z = LN(x + BN(out(y)))``, ``y_i = 1/N sum_j (theta(x_i) . phi(A_j)) g(x_j)`` over the N = T' h w positions of a
    window of T' frames. As ``phi(A_j)`` depends on the frame t of j only, the sum over a frame's pixels is that of g,
    and as theta, g and out are linear, so that g of a mean is the mean of g,
    ``out(y_i) = 1/T' sum_t (theta(x_i) . phi(A_t)) W_out g(mean x_t) + b_out``: exact, and no N x N matrix is made.

    Args:
        channels (int): C of the maps; the affinity has half of them.
        audio_channels (int): Da. Defaults to 128.
        window (int): T'. Defaults to 5.
        audio_bias (bool): whether ``align`` has a bias: not in the published semantic code, but in the binary one.
            Defaults to False.
    """

    def __init__(self, channels: int, audio_channels: int = 128, window: int = 5, audio_bias: bool = False) -> None:
        super().__init__()
        self.window, inner = window, channels // 2
        self.align = nn.Linear(audio_channels, channels, bias=audio_bias)
        self.theta, self.phi, self.g = (nn.Linear(channels, inner) for _ in range(3))
        self.out = nn.Linear(inner, channels)
        self.norm = nn.BatchNorm2d(channels)
        self.layer_norm = nn.LayerNorm(channels)

    def init_weights(self) -> None:
        """Start as the layer norm of the map: batch norm gives 0."""
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse M frames with their audio, M a multiple of T'.

        Args:
            x (Tensor): (M, C, h, w).
            audio (Tensor): (M, Da).

        Returns:
            tuple: fused maps (M, C, h, w), and A (M, C).
        """
        aligned = self.align(audio)  # (M, C)
        update = self.norm(self._attend(x, aligned))
        return self.layer_norm((x + update).movedim(1, -1)).movedim(-1, 1), aligned

    def _attend(self, x: Tensor, aligned: Tensor) -> Tensor:
        """``out(y)`` (M, C, h, w) of maps (M, C, h, w) and aligned audio (M, C)."""
        phi = self.phi(aligned)
        keys = phi @ self.theta.weight  # (M, C): theta(x) . phi = x . keys + biases
        biases = phi @ self.theta.bias
        values = self.g(x.mean((2, 3))) @ self.out.weight.t() / self.window  # (M, C)
        keys, biases, values = (part.unflatten(0, (-1, 1, self.window)) for part in (keys, biases, values))
        pixels = x.flatten(2).unflatten(0, (-1, self.window))  # (W, T', C, h * w)
        affinity = keys @ pixels + biases[..., None]  # (W, T', T', h * w)
        update = values.transpose(-1, -2) @ affinity + self.out.bias[:, None]  # (W, T', C, h * w)
        return update.flatten(0, 1).view_as(x)
