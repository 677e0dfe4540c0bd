# SPDX-License-Identifier: Apache-2.0
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import draw_weights
from torch import Tensor

from ovavss_mm import compat
from ovavss_mm.models.layers import deform_attention
from ovavss_mm.models.layers.deform_attention import DeformableAttention

C, HEADS, POINTS = 8, 2, 3


def make(levels: int, plain: bool = False) -> DeformableAttention:
    sizes = dict(embed_dims=C, num_heads=HEADS, num_levels=levels, num_points=POINTS)
    module = DeformableAttention(plain, **sizes, dropout=0.0, batch_first=True)
    return draw_weights(module, 0.5).double()


def make_inputs(frames: int, shapes: list[tuple[int, int]]) -> dict[str, Tensor]:
    """Tokens, positions and reference points some of which lie outside."""
    length = sum(h * w for h, w in shapes)
    sizes = torch.tensor(shapes)
    starts = torch.cat([torch.zeros(1, dtype=torch.long), sizes.prod(1).cumsum(0)[:-1]])
    reference = torch.rand(frames, length, len(shapes), 2, dtype=torch.double) * 1.4 - 0.2
    tokens = (torch.randn(frames, length, C, dtype=torch.double) for _ in range(3))
    return dict(
        zip(('query', 'query_pos', 'value'), tokens, strict=True),
        reference_points=reference,
        spatial_shapes=sizes,
        level_start_index=starts,
    )


def results(module: DeformableAttention, inputs: dict[str, Tensor]) -> list[Tensor]:
    """The output, and the gradients of inputs and parameters."""
    wanted = [inputs[key].requires_grad_() for key in ('query', 'query_pos', 'value')]
    wanted += [inputs['reference_points'].requires_grad_(), *module.parameters()]
    output = module(**inputs)
    loss = (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum()
    return [output, *torch.autograd.grad(loss, wanted)]


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3),
    st.integers(0, 99),
    st.booleans(),
)
def test_equals_the_hosts_in_value_and_gradient(frames, shapes, seed, planes):
    torch.manual_seed(seed)
    inputs = make_inputs(frames, shapes)
    fast, plain = make(len(shapes)), make(len(shapes), plain=True)
    plain.load_state_dict(fast.state_dict())
    with patch.object(deform_attention, 'uses_planes', lambda x: planes):  # True: as on a GPU and in graphs
        found = results(fast, inputs)
    for ours, expected in zip(found, results(plain, inputs), strict=True):
        assert torch.allclose(ours, expected, atol=1e-10)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), 1e30])
def test_points_that_are_nowhere_harm_only_their_own_sums(value):
    """What is not finite shows in the losses, and never reads beside the values."""
    inputs = make_inputs(1, [(3, 4), (2, 2)])
    module = make(2)
    expected = module(**inputs)
    inputs['reference_points'][0, 5] = value
    output = module(**inputs)
    others = torch.arange(output.shape[1]) != 5
    assert torch.equal(output[:, others], expected[:, others])
    assert output[0, 5].isnan().all() if value != value else output[0, 5].isfinite().all()


def test_mmcvs_operation_equals_the_hosts_in_value_and_gradient(monkeypatch):
    """The way to the kernel, here with what stands in for it."""
    monkeypatch.setattr(deform_attention, 'uses_kernel', lambda x: True)
    inputs = make_inputs(3, [(4, 5), (2, 3)])
    ours, plain = make(2), make(2, plain=True)
    plain.load_state_dict(ours.state_dict())
    monkeypatch.setattr(compat, 'warn_slow_attention', lambda: None)
    found = results(ours, inputs)
    for result, expected in zip(found, results(plain, inputs), strict=True):
        assert torch.allclose(result, expected, atol=1e-10)


def test_values_are_the_query_unless_given():
    inputs = make_inputs(2, [(3, 4)])
    module = make(1)
    inputs['value'] = inputs['query']
    expected = module(**inputs)
    inputs.pop('value')
    assert torch.equal(module(**inputs), expected)


def test_frames_do_not_mix():
    inputs = make_inputs(3, [(4, 5), (2, 3)])
    module = make(2)
    alone = {key: x if x.ndim < 3 else x[1:2] for key, x in inputs.items()}
    assert torch.allclose(module(**alone), module(**inputs)[1:2], atol=1e-12)


def test_points_are_as_exact_under_autocast(monkeypatch):
    """Of 64 columns, which bfloat16 could not tell apart: to 3 % of a pixel.

    Offsets are of a pixel or so, as bfloat16 is exact to 0.4 % of what it holds.
    """
    inputs = {key: x.float() if x.is_floating_point() else x for key, x in make_inputs(1, [(1, 64)]).items()}
    places, sample = [], deform_attention.sample_rows

    def spy(values, reference, x, y, weights, shapes):
        assert {part.dtype for part in (values, reference, x, y, weights)} == {torch.float32}
        places.append(64 * reference[..., 0] + x)  # in pixels
        return sample(values, reference, x, y, weights, shapes)

    monkeypatch.setattr(deform_attention, 'sample_rows', spy)
    module = draw_weights(make(1).float(), 0.05)
    with torch.no_grad():
        module.sampling_offsets.weight *= 0.25
        module.sampling_offsets.bias *= 0.25
    expected = module(**inputs)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        output = module(**inputs)
    assert output.dtype == torch.float32
    assert torch.allclose(output, expected, rtol=5e-2, atol=5e-2)
    exact, autocast = places
    assert exact.max() > 60
    assert torch.allclose(exact, autocast, rtol=0, atol=3e-2)


def test_tokens_must_come_with_frames_first():
    with pytest.raises(ValueError, match='batch_first must be True, got False'):
        DeformableAttention(embed_dims=C, num_heads=HEADS, batch_first=False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('autocast', [False, True])
def test_a_gpu_gives_what_a_cpu_gives(autocast):
    """By mmcv's kernel where it is compiled, in float32 also under autocast."""
    inputs = {key: x.float() if x.is_floating_point() else x for key, x in make_inputs(2, [(6, 9), (3, 5)]).items()}
    module = make(2).float()
    expected = results(module, inputs)
    moved = {key: x.detach().cuda() for key, x in inputs.items()}
    with torch.autocast('cuda', dtype=torch.bfloat16, enabled=autocast):
        found = results(module.cuda(), moved)
    tolerance = 5e-2 if autocast else 1e-4
    for ours, cpu in zip(found, expected, strict=True):
        assert torch.allclose(ours.cpu(), cpu, rtol=tolerance, atol=tolerance * cpu.abs().max())
