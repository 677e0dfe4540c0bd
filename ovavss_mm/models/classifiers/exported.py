# SPDX-License-Identifier: Apache-2.0
"""CLIP as ONNX graphs (docs/deploy.md)."""

from types import SimpleNamespace
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..layers.onnx_graph import OnnxGraph
from .clip_square_crop import CLIPSquareCropClassifier

MASKS = 8  # named at a time: faster than all at once (docs/deploy.md)


class ExportedCLIP(nn.Module):
    """What classifiers ask of an open_clip model, with the text tower in a graph and no image tower.

    Args:
        text_graph (str): path of the graph: ``tokens`` (M, L) int64 in, ``embeddings`` (M, D) float32 of length 1 out.
        image_size (int): side of the image tower's input in pixels.
        context_length (int): of the text tower, in tokens.
        text_channels (int): D.
        logit_scale (float): logarithm of the model's own factor of cosine similarities.
    """

    def __init__(
        self, text_graph: str, image_size: int, context_length: int, text_channels: int, logit_scale: float
    ) -> None:
        super().__init__()
        self.graph = OnnxGraph(text_graph)
        self.visual = SimpleNamespace(image_size=image_size)
        self.context_length = context_length
        self.register_buffer('logit_scale', torch.tensor(logit_scale), persistent=False)
        self.register_buffer('text_projection', torch.empty(0, text_channels), persistent=False)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Embeddings (M, D) of tokens (M, context length) int64, whose padding the graph is spared."""
        length = int(tokens.argmax(1).max()) + 1  # the end has the highest number
        return self.graph(tokens=tokens[:, :length])['embeddings'].to(tokens.device)


@MODELS.register_module()
class ExportedCropClassifier(CLIPSquareCropClassifier):
    """:class:`CLIPSquareCropClassifier` whose CLIP was exported, with the cropping before it.

    Args:
        graph (str): path of the graph that names: ``frames`` (T, 3, h, w) uint8, ``masks`` (M, H, W) float32
            probabilities, ``index`` (M,) int64, the frame of each mask, and ``text`` (N, D) float32 in; ``embeddings``
            (M, D) of length 1, and ``logits`` (M, N) out. Which crop it makes was fixed when it was exported.
        clip_model (dict): arguments of :class:`ExportedCLIP`.
        **kwargs: see :class:`CLIPSquareCropClassifier`.
    """

    def __init__(self, graph: str, clip_model: dict, **kwargs: Any) -> None:
        super().__init__(clip_model=ExportedCLIP(**clip_model), **kwargs)
        self.graph = OnnxGraph(graph)

    def embed_crops(self, frames: Tensor, frame_inds: Tensor, masks: Tensor) -> Tensor:
        """See the base class."""
        text = torch.zeros(1, self.text_channels)  # its logits are not asked for
        size = min(self.chunk_size, MASKS)
        chunks = zip(frame_inds.split(size), masks.split(size), strict=True)
        parts = [
            self.graph(['embeddings'], frames=frames, masks=part, index=index, text=text)['embeddings']
            for index, part in chunks
        ]
        return torch.cat(parts).to(frames.device)
