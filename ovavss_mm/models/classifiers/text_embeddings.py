# SPDX-License-Identifier: Apache-2.0
"""Names as points in CLIP's space."""

from collections import Counter
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
    repeated = sorted(name for name, number in Counter(names).items() if number > 1)
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
            encode_prompts(clip, tokenizer(prompts[i : i + chunk_size]).to(device)).float(), dim=-1
        )
        for i in range(0, len(prompts), chunk_size)
    ]
    return F.normalize(torch.cat(parts).unflatten(0, (len(names), -1)).mean(1), dim=-1)


def encode_prompts(clip: nn.Module, tokens: Tensor) -> Tensor:
    """As ``clip.encode_text``, without the padding behind the prompts, which is most of what CLIP reads.

    Attention is causal and a prompt's embedding is read at its end: what follows has no effect.

    Args:
        clip: open_clip model; one that pools otherwise reads everything.
        tokens: (M, context length) int64; the end has the highest number in each row.

    Returns:
        (M, D), not normalised.
    """
    if getattr(clip, 'text_pool_type', None) != 'argmax' or clip.attn_mask is None:
        return clip.encode_text(tokens)
    end = tokens.argmax(1)
    length = int(end.max()) + 1
    x = clip.token_embedding(tokens[:, :length]) + clip.positional_embedding[:length]
    x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
    x = clip.ln_final(x[torch.arange(len(x), device=x.device), end])
    projection = clip.text_projection
    return projection(x) if isinstance(projection, nn.Module) else x @ projection
