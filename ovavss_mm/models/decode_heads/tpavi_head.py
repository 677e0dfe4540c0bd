# SPDX-License-Identifier: Apache-2.0
"""TPAVI: logits of each pixel, from maps that have seen the sound of their window (paper Table 2)."""

import warnings
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule, ModuleList
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.refine_block import RefineBlock
from ..layers.tpavi_block import TPAVIBlock

IGNORED = 255  # label of pixels without annotation


@MODELS.register_module()
class TPAVIHead(BaseModule):
    """A TPAVI block a level, a decoder from f32 up to stride 2, and convolutions to logits at the size of the input.

    Clips are cut into windows of T' frames that do not see each other; one that T' does not divide is filled up with
    padding frames, whose maps and audio are 0, as in the published code.

    Args:
        num_classes (int): K, background and the N names; or 1, sounding or not.
        channels (int): C of the maps, f4 to f32. Defaults to 256.
        audio_channels (int): Da. Defaults to 128.
        output_channels (tuple[int, int]): of the convolutions before the one to logits. Defaults to (128, 32).
        window (int): T'. Defaults to 5.
        audio_bias (bool): see :class:`TPAVIBlock`. Defaults to False, as published for several classes.
        relu_residual (bool): whether the decoder's residuals, and the maps that ``loss_avm`` sees, are relu(z), as the
            published code has it by working in place; else they are z. Defaults to True.
        unused_unit (bool): whether the step of f32 has a unit for a skip map, which it never gets, as published.
            Defaults to True.
        extra_branch (dict, optional): config of a ResNet whose last two stages stand here and are never run, as
            published: for its checkpoints, and to compare sizes. Defaults to None.
        loss_avm (dict, optional): config of the loss beside the cross-entropy; None: there is none.

    Raises:
        ValueError: ``num_classes`` or ``window`` under 1.
    """

    needs_audio = True
    align_corners = False

    def __init__(
        self,
        num_classes: int,
        channels: int = 256,
        audio_channels: int = 128,
        output_channels: tuple[int, int] = (128, 32),
        window: int = 5,
        audio_bias: bool = False,
        relu_residual: bool = True,
        unused_unit: bool = True,
        extra_branch: dict | None = None,
        loss_avm: dict | None = None,
    ) -> None:
        super().__init__()
        if min(num_classes, window) < 1 or len(output_channels) != 2:
            raise ValueError(
                'num_classes and window must be at least 1, output_channels two numbers, '
                f'got {num_classes}, {window} and {output_channels}'
            )
        self.num_classes = self.out_channels = self.dense_classes = num_classes
        self.window, self.relu_residual = window, relu_residual
        self.blocks = ModuleList([TPAVIBlock(channels, audio_channels, window, audio_bias) for _ in range(4)])
        self.refine = ModuleList([RefineBlock(channels, relu_residual, i < 3 or unused_unit) for i in range(4)])
        self.output = nn.Sequential(
            nn.Conv2d(channels, output_channels[0], 3, padding=1),
            nn.Upsample(scale_factor=2, mode='bilinear', align_corners=False),
            nn.Conv2d(*output_channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(output_channels[1], num_classes, 1),
        )
        self.extra_branch = None if extra_branch is None else last_stages(MODELS.build(extra_branch))
        self.loss_avm = None if loss_avm is None else MODELS.build(loss_avm)

    def init_weights(self) -> None:
        """Initialise the blocks; convolutions stay as PyTorch draws them."""
        for block in self.blocks:
            block.init_weights()
        if self.extra_branch is not None:
            self.extra_branch.init_weights()

    # ------------------------------------------------------------------ network
    def fuse(
        self, x: tuple[Sequence[Tensor], Tensor], valid: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Run the TPAVI blocks.

        Args:
            x (tuple[Sequence[Tensor], Tensor]): maps f4 to f32, each (B * T, C, h, w), and audio (B, T, Da).
            valid (Tensor, optional): (B, T) bool, which frames exist; None: all.

        Returns:
            tuple: fused maps (M, C, h, w) and aligned audio (M, C) of each level, and (B, T) int64, which of the M
            frames are those of the input; the others fill up windows.
        """
        feats, audio = x
        if audio.ndim == 4:
            audio = audio.mean(2)  # (B, T, S, Da) -> (B, T, Da)
        batch, frames = audio.shape[:2]
        missing = -frames % self.window
        if missing:
            filled = f'{frames} frames are filled up to {frames + missing}, as windows have {self.window}'
            warnings.warn(f'TPAVI: clips of {filled}', stacklevel=2)
        index = torch.arange(batch * (frames + missing)).view(batch, -1)[:, :frames]  # (B, T)
        exists = valid is None or bool(valid.all())

        def fill(part: Tensor) -> Tensor:
            if not exists:
                part = part * valid.to(part).flatten().view(-1, *[1] * (part.ndim - 1))
            if missing:
                part = F.pad(part.unflatten(0, (batch, frames)), [0, 0] * (part.ndim - 1) + [0, missing]).flatten(0, 1)
            return part

        audio = fill(audio.flatten(0, 1))
        fused = [block(fill(level), audio) for block, level in zip(self.blocks, feats, strict=True)]
        maps, aligned = (list(part) for part in zip(*fused, strict=True))
        return maps, aligned, index

    def decode(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits (M, K, H, W) of fused maps f4 to f32, each (M, C, h, w); H and W are 4 times those of f4."""
        out = self.refine[3](maps[3])
        for i in (2, 1, 0):
            out = self.refine[i](out, maps[i])
        return self.output(out)

    def forward(self, x: tuple[Sequence[Tensor], Tensor], valid: Tensor | None = None) -> Tensor:
        """Logits (B, T, K, H, W) as of :meth:`fuse`, exactly 0 for padding frames."""
        maps, _, index = self.fuse(x, valid)
        found = index if valid is None else index[valid.cpu()]
        logits = self.decode([level[found.flatten()] for level in maps])
        if found.numel() == index.numel():
            return logits.unflatten(0, index.shape)
        out = logits.new_zeros(*index.shape, *logits.shape[1:])
        out[valid] = logits
        return out

    # ------------------------------------------------------------------ training and testing
    def loss(
        self, x: tuple[Sequence[Tensor], Tensor], data_samples: list[SegDataSample], train_cfg: object = None
    ) -> dict[str, Tensor]:
        """Losses of B clips: the mean over all their annotated frames.

        Only annotated frames are decoded: no other has a part in a loss, and the decoder has no batch norm.

        Args:
            x (tuple[Sequence[Tensor], Tensor]): as of :meth:`fuse`.
            data_samples (list[SegDataSample]): B samples with ``gt_sem_seg`` (T, H, W), 255 where nothing is annotated,
                and metainfo ``valid_frames`` if not all frames exist.
            train_cfg (object): not used; mmseg's signature. Defaults to None.

        Returns:
            dict[str, Tensor]: ``loss_ce``, and ``loss_avm`` if there is one.
        """
        labels = torch.stack([sample.gt_sem_seg.data for sample in data_samples])  # (B, T, H, W)
        maps, audio, index = self.fuse(x, valid_frames([sample.metainfo for sample in data_samples], labels.shape[1]))
        annotated = (labels != IGNORED).flatten(2).any(-1)  # (B, T)
        chosen, labels = index.to(labels.device)[annotated], labels[annotated].long()  # (A,), (A, H, W)
        maps, audio = ([part[chosen] for part in parts] for parts in (maps, audio))
        logits = self.decode(maps)
        losses = dict(loss_ce=mean_over_frames(*self._pixel_loss(logits, labels)))
        if self.loss_avm is not None:
            maps = [level.relu() for level in maps] if self.relu_residual else maps
            losses['loss_avm'] = self.loss_avm(logits, maps, audio)
        return losses

    def _pixel_loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each pixel, and whether it is annotated: both (A, H, W)."""
        known = labels != IGNORED
        if logits.shape[-2:] != labels.shape[-2:]:
            logits = F.interpolate(logits, labels.shape[-2:], mode='bilinear', align_corners=False)
        if self.num_classes > 1:
            return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction='none'), known
        target = ((labels > 0) & known).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits[:, 0], target, reduction='none') * known, known

    def predict(
        self, x: tuple[Sequence[Tensor], Tensor], batch_img_metas: object = None, test_cfg: object = None
    ) -> Tensor:
        """Logits (B, T, K, H, W): see :meth:`forward`."""
        return self(x)


def valid_frames(metas: Sequence[dict], frames: int) -> Tensor | None:
    """Which frames of clips exist, (B, T) bool, by their metainfo ``valid_frames``; None: all."""
    counts = torch.tensor([meta.get('valid_frames', frames) for meta in metas])
    return None if bool((counts == frames).all()) else torch.arange(frames) < counts[:, None]


def mean_over_frames(values: Tensor, known: Tensor) -> Tensor:
    """Mean over a frame's known pixels, then over frames, of (A, H, W); 0 without frames."""
    per_frame = values.flatten(1).sum(1) / known.flatten(1).sum(1).clamp(min=1)
    return per_frame.sum() / max(len(values), 1)


def last_stages(backbone: nn.Module) -> nn.Module:
    """Take all but its last two stages away from a ResNet; ValueError if it has none of their names."""
    if not {'layer3', 'layer4'} <= dict(backbone.named_children()).keys():
        raise ValueError(f'extra_branch must be the config of a ResNet, got {type(backbone).__name__}')
    for name, _ in list(backbone.named_children()):
        if name not in ('layer3', 'layer4'):
            delattr(backbone, name)
    return backbone
