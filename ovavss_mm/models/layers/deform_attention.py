# SPDX-License-Identifier: Apache-2.0
"""Multi-scale deformable attention that is fast on a CPU; on a GPU it is mmcv's."""

from typing import Any

import torch
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttention
from torch import Tensor, nn
from torch.nn import functional as F


class PlanarDeformableAttention(MultiScaleDeformableAttention):
    """mmcv's attention with the same weights and results, from channel planes instead of tokens.

    On a CPU projections write values, sampling points and weights with positions innermost, as sampling reads them, and
    one frame after the other is sampled. On a GPU this is mmcv's own forward pass, in float32.

    Args:
        plain (bool): whether mmcv's own path is taken throughout, to compare with. Defaults to False.
        **kwargs: as mmcv's; ``batch_first`` must be True.

    Raises:
        ValueError: ``batch_first`` is not True.
    """

    def __init__(self, plain: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not self.batch_first:
            raise ValueError(f'batch_first must be True, got {self.batch_first}')
        self.plain = plain

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        reference_points: Tensor,
        spatial_shapes: Tensor,
        level_start_index: Tensor,
        value: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Attend from each token to ``num_points`` points in each level, with a residual.

        Args:
            query (Tensor): (M, L, C) tokens of all levels of M frames.
            query_pos (Tensor): (M, L, C).
            reference_points (Tensor): (M, L, levels, 2), x and y in [0, 1].
            spatial_shapes (Tensor): (levels, 2) int64, height and width.
            level_start_index (Tensor): (levels,) int64.
            value (Tensor, optional): (M, L, C); None: ``query``. Defaults to None.
            **kwargs: mmcv's others. ``key_padding_mask`` is ignored: frames of a group are not padded.

        Returns:
            Tensor: (M, L, C).
        """
        exact = torch.promote_types(query.dtype, torch.float32)  # bfloat16 cannot tell pixels apart
        if self.plain or query.is_cuda:
            arguments = dict(value=value, query_pos=query_pos, reference_points=reference_points)
            arguments = {k: None if v is None else v.to(exact) for k, v in arguments.items()}
            arguments.update(spatial_shapes=spatial_shapes, level_start_index=level_start_index)
            with torch.autocast(query.device.type, enabled=False):  # mmcv's kernel has no bfloat16
                return super().forward(query.to(exact), **arguments, **kwargs)
        identity, value = query, query if value is None else value
        query = query + query_pos
        sizes = (self.num_heads, self.num_levels, self.num_points)
        offsets = _planes(self.sampling_offsets, query).unflatten(1, (*sizes, 2)).to(exact)
        weights = _planes(self.attention_weights, query).unflatten(1, (self.num_heads, -1))
        weights = weights.to(exact).softmax(2).unflatten(2, sizes[1:])  # (M, h, levels, points, L)
        values = _planes(self.value_proj, value).to(exact)  # (M, C, L)
        size = spatial_shapes.flip(1).to(offsets)[:, None, :, None]  # (levels, 1, 2, 1): x, y
        reference = reference_points.permute(0, 2, 3, 1)[:, None, :, None]  # (M, 1, levels, 1, 2, L)
        locations = reference + offsets / size  # (M, h, levels, points, 2, L), in [0, 1]
        sampled = sample_planes(values, 2 * locations - 1, weights, spatial_shapes.tolist())
        return self.dropout(self.output_proj(sampled.transpose(1, 2))) + identity


def _planes(linear: nn.Linear, tokens: Tensor) -> Tensor:
    """A linear layer of tokens (M, L, C), as planes (M, C', L)."""
    weight = linear.weight.expand(len(tokens), -1, -1)
    return torch.baddbmm(linear.bias[:, None], weight, tokens.transpose(1, 2))


def sample_planes(values: Tensor, grid: Tensor, weights: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """Weighted sums of values at points between pixels.

    Args:
        values (Tensor): (M, C, L) float32, the levels one after the other.
        grid (Tensor): (M, heads, levels, points, 2, L), x and y, -1 and 1 are a level's outer edges.
        weights (Tensor): (M, heads, levels, points, L).
        shapes (list[tuple[int, int]]): height and width of each level.

    Returns:
        Tensor: (M, C, L): each head's channels from its own points.
    """
    frames = zip(values.split(1), grid, weights, strict=True)
    return torch.cat([_sample_frame(*frame, shapes) for frame in frames])


def _sample_frame(values: Tensor, grid: Tensor, weights: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """:func:`sample_planes` of one frame: (1, C, L), the others without M."""
    heads = len(grid)
    total: Any = 0
    levels = values.split([height * width for height, width in shapes], dim=-1)
    for index, (level, shape) in enumerate(zip(levels, shapes, strict=True)):
        maps = level.reshape(heads, -1, *shape)  # (1, C, h * w) -> (heads, C / heads, h, w)
        # (heads, points, 2, L) -> (heads, points, L, 2) -> (heads, C / heads, points, L)
        sampled = F.grid_sample(maps, grid[:, index].transpose(2, 3), align_corners=False)
        total = total + WeightedSum.apply(sampled, weights[:, index])
    return total.flatten(0, 1)[None]


class WeightedSum(torch.autograd.Function):
    """``(sampled * weights[:, None]).sum(2)``, with gradients laid out as the backward pass of sampling reads them.

    Autograd's own would be transposed, and copied at once: a third of the time of that pass on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, sampled: Tensor, weights: Tensor) -> Tensor:
        """Of (h, d, points, L) values and (h, points, L) weights: (h, d, L)."""
        ctx.save_for_backward(sampled, weights)
        return (sampled * weights[:, None]).sum(2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Of (h, d, L)."""
        sampled, weights = ctx.saved_tensors
        grad = grad[:, :, None]
        grad_sampled = torch.mul(grad, weights[:, None], out=torch.empty_like(sampled))
        return grad_sampled, (grad * sampled).sum(1)
