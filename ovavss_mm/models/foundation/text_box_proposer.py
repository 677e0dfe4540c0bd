# SPDX-License-Identifier: Apache-2.0
"""Boxes of names by Grounding DINO."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torchvision.ops import box_convert

from ...utils.foundation import import_transformers
from .base import FoundationModel


@MODELS.register_module()
class TextBoxProposer(FoundationModel):
    """Finds boxes of what a name says in a frame, by a frozen Grounding DINO, a pass for each frame and name.

    The caption is the name in lower case with a full stop. A box's score is its greatest probability over the words;
    boxes are neither limited in number nor suppressed by each other.

    Args:
        config (dict): arguments of the library's ``GroundingDinoConfig``.
        init_cfg (dict, optional): as of :class:`FoundationModel`. Defaults to None.
        tokenizer (str, optional): as of :class:`FoundationModel`. Defaults to None.
        dtype (str): as of :class:`FoundationModel`. Defaults to 'float32'.
        short_side (int): of the resized frame, in pixels. Defaults to 800.
        long_side (int): the resized frame's is at most this, in pixels. Defaults to 1333.
        box_thr (float): scores of boxes are above this. Defaults to 0.3.
        chunk_size (int): pairs of frame and name at a time; bounds memory, never the result. Defaults to 4.

    Raises:
        ValueError: a value out of range, or see :class:`FoundationModel`.
    """

    model_name = 'GroundingDinoForObjectDetection'

    def __init__(
        self,
        config: dict,
        init_cfg: dict | None = None,
        tokenizer: str | None = None,
        dtype: str = 'float32',
        short_side: int = 800,
        long_side: int = 1333,
        box_thr: float = 0.3,
        chunk_size: int = 4,
    ) -> None:
        super().__init__(config, init_cfg, tokenizer, dtype)
        if not 1 <= short_side <= long_side or chunk_size < 1 or not 0 <= box_thr <= 1:
            raise ValueError(
                'short_side must be at least 1 and at most long_side, chunk_size at least 1 and box_thr in [0, 1], '
                f'got {short_side}, {long_side}, {chunk_size} and {box_thr}'
            )
        self.box_thr, self.chunk_size = box_thr, chunk_size
        for part in self.model.modules():
            if type(part).__name__ == 'MultiScaleDeformableAttention':  # of the library
                part.register_forward_pre_hook(_widen)
                part.register_forward_hook(partial(_narrow, self.dtype))
        kind = import_transformers().GroundingDinoImageProcessor
        self.processor = kind(size=dict(shortest_edge=short_side, longest_edge=long_side))

    @staticmethod
    def caption(name: str) -> str:
        """What is asked for a name."""
        return f'{name.lower().strip()}.'

    def truncated_words(self, words: Sequence[str]) -> list[str]:
        """Names whose ends are beyond what the model reads and have no effect."""
        ids = self.tokenizer([self.caption(word) for word in words])['input_ids']
        room = self.model.config.max_text_len
        return [word for word, row in zip(words, ids, strict=True) if len(row) > room]

    @torch.no_grad()
    def forward(self, frames: Tensor, pairs: Sequence[tuple[int, str]]) -> list[InstanceData]:
        """Find boxes of names in frames; a frame and a text are encoded once, in however many pairs they are.

        Args:
            frames (Tensor): (T, 3, h, w) uint8 RGB.
            pairs (Sequence[tuple[int, str]]): P pairs of a frame's place and a name.

        Returns:
            list[InstanceData]: for each pair ``boxes`` (n, 4), left, top, right, bottom in pixels of the frame, and
            ``scores`` (n,) in [0, 1], in no order.
        """
        if not pairs:
            return []
        names = list(dict.fromkeys(name for _, name in pairs))
        texts, net, found = self._tokenize(names), self.model.model, []
        pixels = self.processor(images=list(frames), return_tensors='pt')['pixel_values'].to(self.device, self.dtype)
        height, width = frames.shape[-2:]
        size = torch.tensor([width, height, width, height], device=self.device)
        with _Once(net.backbone) as seen, _Once(net.text_backbone) as read:
            for at in range(0, len(pairs), self.chunk_size):
                seen.keys = [frame for frame, _ in pairs[at : at + self.chunk_size]]
                read.keys = [names.index(name) for _, name in pairs[at : at + self.chunk_size]]
                out = self.model(pixels[seen.keys], **{key: value[read.keys] for key, value in texts.items()})
                scores = out.logits.float().sigmoid().amax(-1)  # (p, queries, tokens) -> (p, queries)
                boxes = box_convert(out.pred_boxes.float(), 'cxcywh', 'xyxy') * size
                for box, score in zip(boxes, scores, strict=True):
                    kept = score > self.box_thr
                    found.append(InstanceData(boxes=box[kept], scores=score[kept]))
        return found

    def _tokenize(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Token ids, types and mask (N, up to max_text_len) of the captions of N names."""
        room = dict(padding=True, truncation=True, max_length=self.model.config.max_text_len)
        texts = self.tokenizer([self.caption(name) for name in names], **room, return_tensors='pt')
        return dict(texts.to(self.device))


class _Once:
    """While it is entered, a module runs once on equal rows of its batches; ``keys`` tell which rows are equal."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.run = module, module.forward
        self.keys: list[int] = []
        self.rows: dict[int, Any] = {}

    def __enter__(self) -> '_Once':
        self.module.forward = self
        return self

    def __exit__(self, *_: object) -> None:
        del self.module.forward

    def __call__(self, *inputs: Tensor, **options: bool) -> Any:
        """The module's output for inputs (B, ...), whose rows have B keys."""
        new = {key: at for at, key in enumerate(self.keys) if key not in self.rows}
        if new:
            out = self.run(*[x[list(new.values())] for x in inputs], **options)
            self.rows |= {key: tree_map(lambda x, i=i: x[i : i + 1], out) for i, key in enumerate(new)}
        return tree_map(lambda *rows: torch.cat(rows), *[self.rows[key] for key in self.keys])


def _widen(_module: nn.Module, inputs: tuple) -> tuple:
    """Forward pre-hook: floats in float32. Positions in bfloat16 are coarse, and torch's sampling gave NaN on a CPU."""
    return tuple(x.float() if torch.is_tensor(x) and x.is_floating_point() else x for x in inputs)


def _narrow(dtype: torch.dtype, _module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
    """Forward hook: back to the dtype of the model."""
    return output.to(dtype)
