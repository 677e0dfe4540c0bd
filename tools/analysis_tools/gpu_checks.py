# SPDX-License-Identifier: Apache-2.0
"""What must be the same on a GPU: deformable attention by mmcv's kernel, and the outputs of published models."""

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from unittest.mock import patch

import check_parity
import torch
from bench_timer import TOTAL, RangeTimer
from torch import Tensor, nn

from ovavss_mm.apis.loading import find_config
from ovavss_mm.compat import ensure_mmcv_ops
from ovavss_mm.models.layers import deform_attention
from ovavss_mm.models.skeleton import read_config

STRIDES = (32, 16, 8)
BOUNDS = {False: (1e-4, 1e-3), True: (5e-2, 0.5)}  # of value and gradients; with bfloat16 around, see below
GPU_FACTOR = 10  # of the bounds of parity, which are those of a CPU


# ------------------------------------------------------------------ deformable attention
def compare_attention(config: str, size: tuple[int, int, int], device: str, amp: bool) -> dict:
    """Time, and difference from our PyTorch path in float32, of a layer forward and backward.

    Args:
        config (str): of a model with a pixel decoder.
        size (tuple[int, int, int]): frames, height and width of the input in pixels.
        device (str): such as cuda.
        amp (bool): whether bfloat16 is around.

    Returns:
        dict: of each path milliseconds, and relative differences in value and, the largest, in gradients; ``error`` if
        one is too large.
    """
    head = read_config(find_config(config)).model.decode_head
    torch.manual_seed(0)
    arguments = dict(head.pixel_decoder.encoder.layer_cfg.self_attn_cfg, batch_first=True, dropout=0.0)
    arguments.setdefault('num_levels', len(STRIDES))
    ours, plain = (deform_attention.DeformableAttention(x, **arguments).to(device) for x in (False, True))
    with torch.no_grad():
        for parameter in ours.parameters():  # drawn ones all look at the same places
            parameter.add_(0.05 * torch.randn_like(parameter))
    plain.load_state_dict(ours.state_dict())
    inputs = _tokens(size, arguments['embed_dims'], device)
    expected, _ = _run(ours, inputs, False, kernel=False)
    found: dict = {}
    errors = []
    for name, module, kernel in (('kernel', ours, True), ('ours', ours, False), ("mmcv's", plain, False)):
        if kernel and not deform_attention.uses_kernel(inputs['query']):
            compiled = 'tensors are on a CPU' if ensure_mmcv_ops() else 'mmcv is installed without compiled ops'
            found[name] = f'skipped: {compiled}'
            continue
        results, seconds = _run(module, inputs, amp, kernel)
        value, *grads = (_difference(*pair) for pair in zip(results, expected, strict=True))
        found[name] = dict(ms=1e3 * seconds, value=value, gradient=max(grads))
        # where a point passes from pixel to pixel its gradient jumps, and bfloat16 moves points
        if not (value <= BOUNDS[amp][0] and max(grads) <= BOUNDS[amp][1]):
            errors.append(f'{name} differs by {value:.1e} in value, {max(grads):.1e} in gradient')
    return dict(found, error='; '.join(errors)) if errors else found


def _tokens(size: tuple[int, int, int], channels: int, device: str) -> dict:
    """What the layer takes, of frames of a size."""
    frames, height, width = size
    shapes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    length = sum(h * w for h, w in shapes)
    query, query_pos = torch.randn(2, frames, length, channels, device=device)
    reference = torch.rand(frames, length, len(shapes), 2, device=device)
    return dict(query=query, query_pos=query_pos, reference_points=reference, spatial_shapes=shapes)


def _run(module: nn.Module, inputs: dict, amp: bool, kernel: bool) -> tuple[list[Tensor], float]:
    """Output and gradients of a layer, and the median of the seconds that it takes."""
    device = inputs['query'].device.type
    wanted = [inputs[key].requires_grad_() for key in ('query', 'query_pos')] + list(module.parameters())
    timer, uses = RangeTimer.on(device), deform_attention.uses_kernel
    with patch.object(deform_attention, 'uses_kernel', uses if kernel else lambda x: False):
        for _ in range(5):
            with timer.step():
                with torch.autocast(device, torch.bfloat16, enabled=amp):
                    output = module(**inputs)
                weights = torch.linspace(-1, 1, output.numel(), device=device).view_as(output)
                grads = torch.autograd.grad((output.float() * weights).sum(), wanted)
    return [output, *grads], median(step[TOTAL] for step in timer.steps[1:])


def _difference(ours: Tensor, expected: Tensor) -> float:
    """Norm of the difference, over that of what is expected."""
    return ((ours.float() - expected).norm() / expected.norm().clamp(min=1e-12)).item()


# ------------------------------------------------------------------ published outputs
def compare_fixture(path: str, device: str) -> dict:
    """Compare a fixture of ``check_parity.py`` on a device.

    Args:
        path (str): of the fixture.
        device (str): on a GPU bounds are ten times those of a CPU, and nothing is in TF32.

    Returns:
        dict: of each output its difference as a share of the bound; ``error`` names those above 1.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    with on_device(device):
        _, lines = check_parity.check(path)
    factor = 1 if device == 'cpu' else GPU_FACTOR
    # a bound of 0 is of what is counted
    shares = {x.name: x.difference / (factor * x.bound) if x.bound else x.difference for x in lines}
    wrong = [x.name for x in lines if not x.difference <= factor * x.bound]
    found = dict(outputs=len(lines), largest=max(shares.values()), shares=shares)
    return dict(found, error=f'differ: {", ".join(wrong)}') if wrong else found


@contextmanager
def on_device(device: str) -> Iterator[None]:
    """Have comparisons that are written for a CPU run on another device.

    Arrays become tensors there, modules go there when they are set to evaluate, and what becomes an array comes back.
    """
    if device == 'cpu':
        yield
        return
    from_numpy, to_numpy, evaluate = torch.from_numpy, Tensor.numpy, nn.Module.eval
    with (
        patch('torch.from_numpy', lambda array: from_numpy(array).to(device)),
        patch.object(Tensor, 'numpy', lambda x, **kwargs: to_numpy(x.cpu(), **kwargs)),
        patch.object(nn.Module, 'eval', lambda module: evaluate(module.to(device))),
        torch.device(device),
    ):
        yield
