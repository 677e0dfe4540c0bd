# SPDX-License-Identifier: Apache-2.0
"""TPAVI by the affinity of all pairs of positions, as its paper writes it: what the short form is compared with.

For values in test_tpavi_block.py; for time and memory:
``PYTHONPATH=tests python tools/analysis_tools/benchmark.py tpavi_r50_1xb4-60e_avsbench-ov.py --size 224 224 --frames 10
--compare tests/quadratic_tpavi_config.py``, with ``--mode train`` and ``--mode test``.
"""

from mmseg.registry import MODELS
from torch import Tensor

from ovavss_mm.models import TPAVIHead
from ovavss_mm.models.layers.tpavi_block import TPAVIBlock


class QuadraticBlock(TPAVIBlock):
    """A TPAVI block that makes an N x N affinity, N = T' h w."""

    def _attend(self, x: Tensor, aligned: Tensor) -> Tensor:
        """As the block's, (M, C, h, w)."""
        frames, channels, height, width = x.shape
        tokens = x.unflatten(0, (-1, self.window)).permute(0, 1, 3, 4, 2).flatten(1, 3)  # (W, N, C)
        sound = aligned[:, None].expand(-1, height * width, -1).reshape(frames // self.window, -1, channels)
        affinity = self.theta(tokens) @ self.phi(sound).mT / tokens.shape[1]  # (W, N, N)
        return self.out(affinity @ self.g(tokens)).view(frames, height, width, channels).permute(0, 3, 1, 2)


@MODELS.register_module(force=True)
class QuadraticTPAVIHead(TPAVIHead):
    """The head with such blocks."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for block in self.blocks:
            block.__class__ = QuadraticBlock
