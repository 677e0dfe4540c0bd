# SPDX-License-Identifier: Apache-2.0
"""Multi-scale deformable attention that is fast on a CPU; on a GPU it is mmcv's kernel, if that is compiled."""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttention, MultiScaleDeformableAttnFunction
from torch import Tensor, nn
from torch.nn import functional as F

from ...compat import ensure_mmcv_ops, warn_slow_attention


class PlanarDeformableAttention(MultiScaleDeformableAttention):
    """mmcv's attention with the same weights and results, from channel planes instead of tokens.

    Projections write values, sampling points and weights with positions innermost, as sampling reads them; on a CPU one
    frame after the other is sampled. On a GPU for which mmcv's kernel is compiled, that samples, in float32; mmcv's own
    forward pass would wait for the GPU, in each layer, to compare sizes.

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
        spatial_shapes: Tensor | Sequence[tuple[int, int]],
        level_start_index: Tensor | None = None,
        value: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Attend from each token to ``num_points`` points in each level, with a residual.

        Args:
            query (Tensor): (M, L, C) tokens of all levels of M frames.
            query_pos (Tensor): (M, L, C).
            reference_points (Tensor): (M, L, levels, 2), x and y in [0, 1].
            spatial_shapes (Tensor | Sequence[tuple[int, int]]): (levels, 2), height and width; a tensor of int64 on
                a GPU spares a copy.
            level_start_index (Tensor, optional): (levels,) int64. None: made of the shapes. Defaults to None.
            value (Tensor, optional): (M, L, C); None: ``query``. Defaults to None.
            **kwargs: mmcv's others. ``key_padding_mask`` is ignored: frames of a group are not padded.

        Returns:
            Tensor: (M, L, C).
        """
        exact = torch.promote_types(query.dtype, torch.float32)  # bfloat16 cannot tell pixels apart
        if self.plain:
            arguments = dict(value=value, query_pos=query_pos, reference_points=reference_points)
            arguments = {k: None if v is None else v.to(exact) for k, v in arguments.items()}
            shapes = torch.as_tensor(spatial_shapes, device=query.device)
            if level_start_index is None:
                level_start_index = shapes.prod(1).cumsum(0) - shapes.prod(1)
            arguments.update(spatial_shapes=shapes, level_start_index=level_start_index)
            with torch.autocast(query.device.type, enabled=False):
                return super().forward(query.to(exact), **arguments, **kwargs)
        if uses_kernel(query):
            tokens = query if value is None else value
            with torch.autocast(query.device.type, enabled=False):  # mmcv's kernel has no bfloat16
                return self._by_kernel(
                    query.to(exact), query_pos.to(exact), reference_points.to(exact), tokens.to(exact), spatial_shapes
                )
        identity, value = query, query if value is None else value
        query = query + query_pos
        sizes = (self.num_heads, self.num_levels, self.num_points)
        offsets = _planes(self.sampling_offsets, query).unflatten(1, (*sizes, 2)).to(exact)
        weights = _planes(self.attention_weights, query).unflatten(1, (self.num_heads, -1))
        weights = weights.to(exact).softmax(2).unflatten(2, sizes[1:])  # (M, h, levels, points, L)
        values = _planes(self.value_proj, value).to(exact)  # (M, C, L)
        shapes = spatial_shapes.tolist() if isinstance(spatial_shapes, Tensor) else spatial_shapes
        reference = reference_points.permute(0, 2, 3, 1)  # (M, levels, 2, L)
        sampled = sample_planes(values, reference, offsets, weights, shapes)
        return self.dropout(self.output_proj(sampled.transpose(1, 2))) + identity

    def _by_kernel(
        self, query: Tensor, query_pos: Tensor, reference: Tensor, value: Tensor, shapes: Tensor | Sequence
    ) -> Tensor:
        """:meth:`forward` by mmcv's operation, of tensors of one dtype."""
        identity, query = query, query + query_pos
        shapes = torch.as_tensor(shapes, device=query.device)
        starts = shapes.prod(1).cumsum(0) - shapes.prod(1)
        sizes = (self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).unflatten(-1, (*sizes, 2)) / shapes.flip(1)[:, None]
        points = reference[:, :, None, :, None] + offsets  # (M, L, heads, levels, points, 2)
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1)).softmax(-1).unflatten(-1, sizes[1:])
        values = self.value_proj(value).unflatten(-1, (self.num_heads, -1))  # (M, L, heads, C / heads)
        # all frames at a time: the kernel wants a divisor of their number
        sampled = MultiScaleDeformableAttnFunction.apply(values, shapes, starts, points, weights, len(query))
        return self.dropout(self.output_proj(sampled)) + identity


def uses_kernel(x: Tensor) -> bool:
    """Whether mmcv's kernel attends from a tensor: on a GPU, where it is compiled; else there is a warning."""
    if x.is_cuda and not ensure_mmcv_ops():
        warn_slow_attention()
    return x.is_cuda and ensure_mmcv_ops()


def _planes(linear: nn.Linear, tokens: Tensor) -> Tensor:
    """A linear layer of tokens (M, L, C), as planes (M, C', L)."""
    weight = linear.weight.expand(tokens.shape[0], -1, -1)
    return torch.baddbmm(linear.bias[:, None], weight, tokens.transpose(1, 2))


def sample_planes(
    values: Tensor, reference: Tensor, offsets: Tensor, weights: Tensor, shapes: Sequence[tuple[int, int]]
) -> Tensor:
    """Weighted sums of values at points between pixels.

    Args:
        values (Tensor): (M, C, L) float32, the levels one after the other.
        reference (Tensor): (M, levels, 2, L), x and y in [0, 1].
        offsets (Tensor): (M, heads, levels, points, 2, L) of the points from these, in pixels of a level.
        weights (Tensor): (M, heads, levels, points, L).
        shapes (Sequence[tuple[int, int]]): height and width of each level.

    Returns:
        Tensor: (M, C, L): each head's channels from its own points.
    """
    if torch.compiler.is_exporting() or values.is_cuda:  # of any number of frames; of few operations
        return _sample(values, reference, offsets, weights, shapes)
    # one frame after the other: the cache of a CPU holds no more
    frames = zip(values.split(1), reference.split(1), offsets.split(1), weights.split(1), strict=True)
    return torch.cat([_sample(*frame, shapes) for frame in frames])


def _sample(
    values: Tensor, reference: Tensor, offsets: Tensor, weights: Tensor, shapes: Sequence[tuple[int, int]]
) -> Tensor:
    """:func:`sample_planes` of all frames at once."""
    heads = offsets.shape[1]
    total: Any = 0
    levels = values.split([height * width for height, width in shapes], dim=-1)
    for index, (level, (height, width)) in enumerate(zip(levels, shapes, strict=True)):
        x, y = offsets[:, :, index].unbind(3)  # (M, heads, points, L)
        at_x, at_y = reference[:, None, None, index].unbind(3)  # (M, 1, 1, L)
        # -1 and 1 are the outer edges; (M, heads, points, 2, L) -> (M, heads, points, L, 2)
        grid = torch.stack([2 * (at_x + x / width) - 1, 2 * (at_y + y / height) - 1], dim=-2).mT
        maps = level.reshape(-1, level.shape[1] // heads, height, width)  # (M * heads, C / heads, h, w)
        sampled = F.grid_sample(maps, grid.flatten(0, 1), align_corners=False)  # (M * heads, C / heads, points, L)
        total = total + WeightedSum.apply(sampled, weights[:, :, index].flatten(0, 1))
    return total.reshape(values.shape)


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
