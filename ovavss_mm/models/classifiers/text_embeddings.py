# SPDX-License-Identifier: Apache-2.0
"""Text embeddings of class names (paper section 3.4, equation 5)."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from mmengine.utils import track_iter_progress
from torch import Tensor, nn
from torch.nn import functional as F

from ...datasets.vocabulary import Vocabulary

CHUNK = 64  # words that are embedded at a time
MAX_WORDS = 100_000  # that are remembered; a server may see any number


class TextEmbeddings:
    """Embeds words with prompt templates, each word once.

    Args:
        model (nn.Module): with ``encode_text``, as the models of open_clip have it.
        tokenizer (Callable): M texts to what ``encode_text`` takes, such as token ids (M, context length) int64.
    """

    def __init__(self, model: nn.Module, tokenizer: Callable[[list[str]], Any]) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._known: dict[tuple[str, tuple[str, ...]], Tensor] = {}

    def __len__(self) -> int:
        """Number of words that are remembered, counted once per set of templates."""
        return len(self._known)

    def __call__(self, vocabulary: Vocabulary, templates: Sequence[str], show_progress: bool = False) -> Tensor:
        """Embed a vocabulary; a name with synonyms is the mean of its own embedding and theirs.

        Args:
            vocabulary (Vocabulary): N names.
            templates (Sequence[str]): prompts with ``{}`` for the name.
            show_progress (bool): whether a bar is shown where many words are new. Defaults to False.

        Returns:
            Tensor: (N, D) float32 on the CPU, of length 1.
        """
        templates = tuple(templates)
        new = [word for word in vocabulary.words if (word, templates) not in self._known]
        if len(self._known) + len(new) > MAX_WORDS:
            self._known.clear()
            new = list(vocabulary.words)
        chunks = [new[i : i + CHUNK] for i in range(0, len(new), CHUNK)]
        for chunk in track_iter_progress(chunks) if show_progress and len(chunks) > 4 else chunks:
            rows = embed_words(self.model, self.tokenizer, chunk, templates).cpu()
            self._known.update({(w, templates): row for w, row in zip(chunk, rows, strict=True)})
        table = []
        for name in vocabulary:
            own = [self._known[word, templates] for word in (name, *vocabulary.synonyms[name])]
            table.append(own[0] if len(own) == 1 else F.normalize(torch.stack(own).mean(0), dim=0))
        return torch.stack(table)


class RemembersText:
    """Mixin of frozen modules: text embeddings are remembered, and forgotten with the weights that made them."""

    _text: TextEmbeddings | None = None
    _has_weights: bool  # of FrozenModule

    def init_weights(self) -> None:
        """Read the weights of ``init_cfg``; text embeddings of other weights are forgotten."""
        had_weights = self._has_weights
        super().init_weights()  # type: ignore[misc]  # of the module that it is mixed into
        if self._has_weights != had_weights:  # it is called before each prediction
            self._text = None

    def _load_from_state_dict(self, *args: object) -> None:
        """Load weights; text embeddings of other weights are forgotten."""
        self._text = None
        super()._load_from_state_dict(*args)  # type: ignore[misc]


@torch.no_grad()
def embed_words(
    model: nn.Module,
    tokenizer: Callable[[list[str]], Any],
    words: Sequence[str],
    templates: Sequence[str],
    chunk_size: int = 256,
) -> Tensor:
    """Embed each word as the normalised mean over its prompts.

    Args:
        model (nn.Module): with ``encode_text``, as the models of open_clip have it.
        tokenizer (Callable): M texts to what ``encode_text`` takes, such as token ids (M, context length) int64.
        words (Sequence[str]): N words.
        templates (Sequence[str]): prompts with ``{}`` for the word.
        chunk_size (int): prompts that are encoded at a time. Defaults to 256.

    Returns:
        Tensor: (N, D) float32, of length 1.
    """
    device = next(chain(model.parameters(), model.buffers())).device
    # str.replace, as a word may hold braces of its own
    prompts = [template.replace('{}', word) for word in words for template in templates]
    with torch.autocast(device.type, enabled=False):
        parts = [
            encode_prompts(model, tokenizer(prompts[i : i + chunk_size]).to(device)).float()
            for i in range(0, len(prompts), chunk_size)
        ]
    embeddings = F.normalize(torch.cat(parts), dim=-1)
    # (N * templates, D) -> (N, templates, D)
    return F.normalize(embeddings.unflatten(0, (len(words), -1)).mean(1), dim=-1)


def encode_prompts(model: nn.Module, tokens: Tensor) -> Tensor:
    """As ``model.encode_text``, without the padding behind the prompts, which is most of what CLIP reads.

    Where attention is causal and a prompt's embedding is read at its end, what follows has no effect.

    Args:
        model (nn.Module): open_clip model; one that pools otherwise reads everything.
        tokens (Tensor): (M, context length) int64; the end has the highest number in each row.

    Returns:
        Tensor: (M, D), not normalised.
    """
    causal = getattr(model, 'attn_mask', None) is not None
    if not causal or getattr(model, 'text_pool_type', None) != 'argmax':
        return model.encode_text(tokens)
    end = tokens.argmax(1)
    # an exported graph is given tokens without the padding
    length = tokens.shape[1] if torch.compiler.is_exporting() else int(end.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x[torch.arange(x.shape[0], device=x.device), end])
    projection = model.text_projection
    return projection(x) if isinstance(projection, nn.Module) else x @ projection
