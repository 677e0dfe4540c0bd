# SPDX-License-Identifier: Apache-2.0
"""Multi-scale deformable attention that is fast on a CPU; on a GPU it is mmcv's kernel, if that is compiled."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttention, MultiScaleDeformableAttnFunction
from scipy.sparse import csc_matrix
from torch import Tensor, nn
from torch.nn import functional as F

from ...compat import ensure_mmcv_ops, warn_slow_attention


class DeformableAttention(MultiScaleDeformableAttention):
    """mmcv's attention with the same weights and results.

    On a CPU sums over points are products with sparse matrices. On a GPU for which mmcv's kernel is compiled, that
    samples, in float32; mmcv's own forward pass would wait for the GPU, in each layer, to compare sizes. Elsewhere
    channel planes are sampled.

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
        tokens = query if value is None else value
        shapes = spatial_shapes.tolist() if isinstance(spatial_shapes, Tensor) else spatial_shapes
        with_pos = query + query_pos
        sample = self._by_planes if uses_planes(query) else self._by_rows
        sampled = sample(with_pos, reference_points.to(exact), tokens, shapes)
        return self.dropout(self.output_proj(sampled)) + query

    def _by_rows(self, query: Tensor, reference: Tensor, value: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        """Sample (M, L, C) on a CPU, tokens as they are."""
        exact, linear = reference.dtype, self.sampling_offsets
        # x and y by themselves: every other row of weight and bias
        x, y = (F.linear(query, linear.weight[i::2], linear.bias[i::2]).to(exact) for i in range(2))
        # in planes, as the softmax of few neighbours is slow; (M, heads, levels * points, L)
        weights = _planes(self.attention_weights, query).unflatten(1, (self.num_heads, -1)).to(exact).softmax(2)
        values = self.value_proj(value).to(exact).unflatten(2, (self.num_heads, -1))
        return sample_rows(values, reference, x, y, weights.flatten(1, 2).mT.contiguous(), shapes)

    def _by_planes(self, query: Tensor, reference: Tensor, value: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        """Sample (M, L, C) by few operations."""
        exact = reference.dtype
        sizes = (self.num_heads, self.num_levels, self.num_points)
        offsets = _planes(self.sampling_offsets, query).unflatten(1, (*sizes, 2)).to(exact)
        weights = _planes(self.attention_weights, query).unflatten(1, (self.num_heads, -1))
        weights = weights.to(exact).softmax(2).unflatten(2, sizes[1:])  # (M, h, levels, points, L)
        values = _planes(self.value_proj, value).to(exact)  # (M, C, L)
        reference = reference.permute(0, 2, 3, 1)  # (M, levels, 2, L)
        return sample_planes(values, reference, offsets, weights, shapes).transpose(1, 2)

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


def uses_planes(x: Tensor) -> bool:
    """Whether :func:`sample_planes` suits a tensor: on a GPU, and in graphs, which have no sparse products."""
    return x.is_cuda or torch.compiler.is_exporting()


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
        total = total + (sampled * weights[:, :, index].flatten(0, 1)[:, None]).sum(2)
    return total.reshape(values.shape)


@torch.compiler.disable  # a sparse product is no operation of torch
def sample_rows(
    values: Tensor, reference: Tensor, x: Tensor, y: Tensor, weights: Tensor, shapes: Sequence[tuple[int, int]]
) -> Tensor:
    """Weighted sums of values at points between pixels, of few and long operations.

    A point's value is a sum over the four pixels around it, so the sum over points is one of weighted rows of a table.

    Args:
        values (Tensor): (M, L, heads, D) float32, the levels one after the other.
        reference (Tensor): (M, N, levels, 2), x and y in [0, 1], of N queries.
        x (Tensor): (M, N, heads * levels * points) of the points from these, in pixels of a level.
        y (Tensor): of the same shape.
        weights (Tensor): of the same shape.
        shapes (Sequence[tuple[int, int]]): height and width of each level.

    Returns:
        Tensor: (M, N, heads * D): each head's channels from its own points.
    """
    (frames, length, heads, _), levels = values.shape, len(shapes)
    points = x.shape[-1] // heads // levels

    def each_point(numbers: Tensor) -> Tensor:
        """One number a level, (..., levels), as one a point, (..., heads * levels * points)."""
        return torch.cat([numbers.repeat_interleave(points, -1)] * heads, -1)

    starts = [0, *accumulate(h * w for h, w in shapes[:-1])]
    height, width, start = (
        each_point(torch.tensor(level, dtype=x.dtype)) for level in (*zip(*shapes, strict=True), starts)
    )
    at_x, at_y = reference.unbind(-1)
    x, y = each_point(at_x) * width - 0.5 + x, each_point(at_y) * height - 0.5 + y
    # the table has a row for each frame, token and head: where those of a frame's head begin, (M, 1, all points)
    first = torch.arange(heads).repeat_interleave(levels * points)
    first = (first + torch.arange(frames)[:, None, None] * length * heads).int()
    columns = [(share, cell.int() * heads) for share, cell in _neighbours(x, width)]
    rows = [(share * weights, (cell * width + start).int() * heads + first) for share, cell in _neighbours(y, height)]
    pairs = [(above * beside, row + column) for above, row in rows for beside, column in columns]
    # of four pixels (M, N, heads * levels * points) -> (M * N * heads, 4 * levels * points)
    shares, index = (
        torch.stack([part.unflatten(2, (heads, -1)) for part in parts], 3).flatten(3).flatten(0, 2)
        for parts in zip(*pairs, strict=True)
    )
    values = values.flatten(0, 2)
    total = F.embedding_bag(index, values.detach(), per_sample_weights=shares, mode='sum')
    return TransposedProduct.apply(total, values, shares.detach(), index).view(*x.shape[:2], -1)


def _neighbours(at: Tensor, size: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Shares of the pixels below and above coordinates, 0 outside of [0, size), and these pixels inside of it."""
    at = at.clamp(torch.full_like(size, -1), size)
    low = at.detach().nan_to_num().floor()  # NaN is no place; it stays in the shares
    share = at - low
    pairs = []
    for part, cell in ((1 - share, low), (share, low + 1)):
        inside = cell.clamp(torch.zeros_like(size), size - 1)
        pairs.append((part * (inside == cell), inside))
    return pairs


class TransposedProduct(torch.autograd.Function):
    """Gives the values of a sum of weighted rows their gradient: the transposed sparse matrix times that of the sum.

    SciPy multiplies; that torch would sort the rows takes ten times as long.
    """

    @staticmethod
    def forward(ctx: Any, total: Tensor, values: Tensor, weights: Tensor, index: Tensor) -> Tensor:
        """Of (N, D) sums of (R, D) values, (N, K) weights and (N, K) int32 rows of the values: the sums."""
        ctx.save_for_backward(weights, index)
        ctx.num_rows = len(values)
        return total.view_as(total)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Of (N, D)."""
        weights, index = ctx.saved_tensors
        starts = torch.arange(0, index.numel() + 1, index.shape[1], dtype=index.dtype)
        parts = tuple(part.flatten().numpy() for part in (weights, index, starts))
        transposed = csc_matrix(parts, shape=(ctx.num_rows, len(index)))
        return grad, torch.from_numpy(transposed @ grad.contiguous().numpy()), None, None
