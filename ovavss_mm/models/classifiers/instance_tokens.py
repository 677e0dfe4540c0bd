# SPDX-License-Identifier: Apache-2.0
"""One pass of a CLIP vision transformer a frame, with a token for each mask."""

from typing import Any

import torch
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional as F

from .open_vocabulary import CPU_IMAGES, OpenVocabularyClassifier


@MODELS.register_module()
class InstanceTokenClassifier(OpenVocabularyClassifier):
    """Embeds the whole frame once, with a copy of the class token for each mask that looks at its mask only.

    After some blocks the class token is copied once for each mask. In the blocks that are left a copy attends to itself
    and to the patches that its mask touches, not to the class token or to other copies; nothing attends to copies. So a
    mask is embedded within its frame, a frame costs one pass whatever the number of masks, and no weights are added. It
    follows what OpenVIS's authors say in words of the later version of their paper (instance guidance attention), and
    the side adapter in the published code of the first.

    A mask that touches no patch is not embedded. Unlike in crops the edges of masks count by patches alone.

    Args:
        copy_after (int, optional): number of blocks after which the class token is copied. None: three quarters of
            them, 9 of 12. Defaults to None.
        **kwargs: see :class:`OpenVocabularyClassifier`; ``clip_model`` is one of open_clip's own vision transformers
            whose class token is the image's embedding, as in OpenAI's.

    Raises:
        ValueError: an image tower of another kind; no block before or none after the copy.
    """

    def __init__(self, copy_after: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        tower = self.clip_model.visual
        if not isinstance(tower, VisionTransformer) or tower.attn_pool is not None or tower.pool_type != 'tok':
            raise ValueError(
                'tokens of masks need a vision transformer of open_clip with a class token, '
                f'got {type(tower).__name__} of {kwargs.get("clip_model")!r}: take CLIPSquareCropClassifier'
            )
        blocks = len(tower.transformer.resblocks)
        self.copy_after = blocks * 3 // 4 if copy_after is None else copy_after
        if not 0 < self.copy_after < blocks:
            raise ValueError(
                f'copy_after must leave a block before and one after it, got {self.copy_after} of {blocks} blocks'
            )

    def embed_masks(self, frames: Tensor, queries: InstanceData, pad_shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Embed masks that have a pixel above 0.5 at their own size, see the base class."""
        rows, columns = (
            -(-size * own // padded)  # rounded up
            for size, own, padded in zip(frames.shape[-2:], queries.masks.shape[-2:], pad_shape, strict=True)
        )
        masks = queries.masks[..., :rows, :columns]
        valid = (masks > 0).flatten(2).any(-1)  # (S, T)
        used = valid.any(0).nonzero()[:, 0]  # a frame without masks needs no pass
        if not len(used):
            return self.encode(frames[:0]), valid
        on_cpu = frames.device.type == 'cpu'
        parts = used.split(min(self.chunk_size, CPU_IMAGES) if on_cpu else self.chunk_size)
        embeddings = torch.cat([self.embed_frames(frames[t], masks[:, t].transpose(0, 1)) for t in parts])
        return embeddings.transpose(0, 1)[valid[:, used]], valid

    def embed_frames(self, frames: Tensor, masks: Tensor) -> Tensor:
        """Embed the masks of T frames.

        Args:
            frames (Tensor): (T, 3, h, w) uint8 RGB.
            masks (Tensor): (T, S, h', w') logits over the same frames, of any size.

        Returns:
            Tensor: (T, S, D) float32, of length 1.
        """
        tower, size = self.clip_model.visual, self.clip_model.visual.image_size
        images = F.interpolate(frames.float(), size, mode='bicubic', align_corners=False)
        start = tower.forward_intermediates(
            (images - self.mean) / self.std,
            indices=[self.copy_after - 1],
            stop_early=True,
            intermediates_only=True,
            output_fmt='NLC',
            output_extra_tokens=True,
        )
        (token,), (patches,) = start['image_intermediates_prefix'], start['image_intermediates']
        count = masks.shape[1]
        tokens = torch.cat([token.expand(-1, count, -1), token, patches], dim=1)  # (T, S + 1 + P, width)
        guide = self._attn_mask(F.adaptive_max_pool2d(masks, tower.grid_size).flatten(2) >= 0)
        batch_first = tower.transformer.batch_first
        tokens = tokens if batch_first else tokens.transpose(0, 1)
        for block in tower.transformer.resblocks[self.copy_after :]:
            tokens = block(tokens, attn_mask=guide)
        tokens = tokens if batch_first else tokens.transpose(0, 1)
        return F.normalize((tower.ln_post(tokens[:, :count]) @ tower.proj).float(), dim=-1)

    def _attn_mask(self, touched: Tensor) -> Tensor:
        """What tokens may see, 0 or -inf, (T * heads, L, L), L = S + 1 + P, of patches (T, S, P) that masks touch."""
        frames, count, patches = touched.shape
        seen = touched.new_zeros(frames, count + 1 + patches, count + 1 + patches)
        seen[:, :, count:] = True  # class token and patches, by all but the copies
        seen[:, :count, :count] = torch.eye(count, dtype=torch.bool, device=touched.device)
        seen[:, :count, count] = False
        seen[:, :count, count + 1 :] = touched
        heads = self.clip_model.visual.transformer.resblocks[0].attn.num_heads
        mask = torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, float('-inf'))
        return mask.repeat_interleave(heads, 0)
