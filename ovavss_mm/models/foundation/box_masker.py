# SPDX-License-Identifier: Apache-2.0
"""Masks of boxes by SAM."""

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ...utils.foundation import import_transformers
from .base import FoundationModel


@MODELS.register_module()
class BoxMasker(FoundationModel):
    """Segments what boxes, and rough masks if wanted, point at, by a frozen SAM.

    Args:
        config (dict): arguments of the library's ``SamConfig``; the frame's long side becomes
            ``vision_config.image_size``.
        init_cfg (dict, optional): as of :class:`FoundationModel`. Defaults to None.
        dtype (str): as of :class:`FoundationModel`. Defaults to 'float32'.
        chunk_size (int): boxes that are decoded at a time; never changes the result. Defaults to 64.

    Raises:
        ValueError: a value out of range, or see :class:`FoundationModel`.
    """

    model_name = 'SamModel'

    def __init__(
        self, config: dict, init_cfg: dict | None = None, dtype: str = 'float32', chunk_size: int = 64
    ) -> None:
        super().__init__(config, init_cfg, dtype=dtype)
        if chunk_size < 1:
            raise ValueError(f'chunk_size must be at least 1, got {chunk_size}')
        self.chunk_size = chunk_size
        self.image_size = side = self.model.config.vision_config.image_size
        kind = import_transformers().SamImageProcessor
        self.processor = kind(size=dict(longest_edge=side), pad_size=dict(height=side, width=side))

    def input_shape(self, frame_shape: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a frame whose long side is SAM's."""
        scale = self.image_size / max(frame_shape)
        height, width = frame_shape
        return int(height * scale + 0.5), int(width * scale + 0.5)

    @torch.no_grad()
    def embed(self, frames: Tensor) -> Tensor:
        """Embed frames, one after the other, as they are large.

        Args:
            frames (Tensor): (T, 3, h, w) uint8 RGB.

        Returns:
            Tensor: (T, C, image_size / patch_size, image_size / patch_size) of the model's dtype.
        """
        parts = []
        for frame in frames:
            pixels = self.processor(images=frame, return_tensors='pt')['pixel_values']
            parts.append(self.model.get_image_embeddings(pixels.to(self.device, self.dtype)))
        return torch.cat(parts)

    @torch.no_grad()
    def forward(
        self,
        embedding: Tensor,
        boxes: Tensor,
        frame_shape: tuple[int, int],
        masks: Tensor | None = None,
        out_shape: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Segment n objects of a frame, in one pass of the decoder: of SAM's masks that for single answers.

        Args:
            embedding (Tensor): (C, h', w'), the frame's of :meth:`embed`.
            boxes (Tensor): (n, 4) float, left, top, right, bottom in pixels of the frame.
            frame_shape (tuple[int, int]): (h, w) of the frame.
            masks (Tensor, optional): (n, hm, wm) logits over the frame, of any size, that the decoder starts from.
                Defaults to None.
            out_shape (tuple[int, int], optional): of the masks. Defaults to None: that of the frame.

        Returns:
            tuple: logits (n, H, W) float32, above 0 inside, and their IoU (n,) as SAM estimates it.
        """
        boxes = boxes.float() * (self.image_size / max(frame_shape))
        prompts = None if masks is None else self._prompts(masks, frame_shape, 4 * embedding.shape[-1])
        logits, ious = [boxes.new_zeros(0, *(out_shape or frame_shape))], [boxes.new_zeros(0)]
        for at in range(0, len(boxes), self.chunk_size):
            some = slice(at, at + self.chunk_size)
            part = boxes[some, None]  # (n, 1, 4): a mask prompt belongs to an image, so each box is one
            out = self.model(
                image_embeddings=embedding.expand(len(part), -1, -1, -1),
                input_boxes=part,
                input_masks=None if prompts is None else prompts[some],
                multimask_output=False,
            )
            # (n, 1, 1, 4h', 4w') -> (n, 1, 4h', 4w') -> (n, H, W)
            logits.append(self._to_frame(out.pred_masks[:, 0].float(), frame_shape, out_shape or frame_shape))
            ious.append(out.iou_scores[:, 0, 0].float())
        return torch.cat(logits), torch.cat(ious)

    def _prompts(self, masks: Tensor, frame_shape: tuple[int, int], side: int) -> Tensor:
        """Logits (n, hm, wm) over the frame as prompts (n, 1, side, side) over SAM's square, 0 beside the frame."""
        height, width = self.input_shape(frame_shape)
        masks = F.interpolate(masks[:, None].float(), (height, width), mode='bilinear', align_corners=False)
        masks = F.pad(masks, (0, self.image_size - width, 0, self.image_size - height))
        return F.interpolate(masks, (side, side), mode='bilinear', align_corners=False).to(self.dtype)

    def _to_frame(self, logits: Tensor, frame_shape: tuple[int, int], out_shape: tuple[int, int]) -> Tensor:
        """Logits (n, 1, 4h', 4w') over SAM's square as logits (n, H, W) over the frame."""
        height, width = self.input_shape(frame_shape)
        square = (self.image_size, self.image_size)
        logits = F.interpolate(logits, square, mode='bilinear', align_corners=False)[..., :height, :width]
        return F.interpolate(logits, out_shape, mode='bilinear', align_corners=False)[:, 0]
