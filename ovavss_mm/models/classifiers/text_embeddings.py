# SPDX-License-Identifier: Apache-2.0
"""Names as points in CLIP's space."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def check_names(names: Sequence[str]) -> None:
    """Raise ValueError if a vocabulary is empty or has blank or repeated names."""
    if not names:
        raise ValueError('the vocabulary is empty: give at least one name')
    blank = [i for i, name in enumerate(names) if not isinstance(name, str) or not name.strip()]
    if blank:
        raise ValueError(
            f'names must be text that is not blank, got {names[blank[0]]!r} at {blank[0]}'
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f'each name may occur once, repeated: {", ".join(repeated)}')


@torch.no_grad()
def embed_names(
    clip: nn.Module,
    tokenizer: Callable[[list[str]], Tensor],
    names: Sequence[str],
    templates: Sequence[str],
    chunk_size: int = 256,
) -> Tensor:
    """Embed each name as the mean over prompt templates.

    Args:
        clip: open_clip model, which encodes text.
        tokenizer: texts to token ids (M, context length).
        names: N names.
        templates: prompts with ``{}`` where the name goes.
        chunk_size: prompts that are encoded at a time.

    Returns:
        (N, D) float32, of length 1.

    Raises:
        ValueError: a vocabulary that is empty, or has blank or repeated names.
    """
    check_names(names)
    device = next(clip.parameters()).device
    # str.replace, as a name may hold braces of its own
    prompts = [template.replace('{}', name) for name in names for template in templates]
    parts = [
        F.normalize(
            clip.encode_text(tokenizer(prompts[i : i + chunk_size]).to(device)).float(), dim=-1
        )
        for i in range(0, len(prompts), chunk_size)
    ]
    return F.normalize(torch.cat(parts).unflatten(0, (len(names), -1)).mean(1), dim=-1)
