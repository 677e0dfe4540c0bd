# SPDX-License-Identifier: Apache-2.0
"""Components of somebody else's package, each of one stage, written against `ovavss_mm.models.interfaces` alone."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from mmseg.registry import MODELS, TRANSFORMS
from torch import Tensor, nn
from torch.nn import functional as F

from ovavss_mm.datasets.transforms.front_ends import SoundFrontEnd
from ovavss_mm.models.classifiers import OpenVocabularyClassifier
from ovavss_mm.models.layers.resize import resize_masks


# ------------------------------------------------------------------ audio encoder with its front end
@TRANSFORMS.register_module()
class ThirdsOfASecond(SoundFrontEnd):
    """Three log spectra of 32 bands a frame, from sound at 32 kHz."""

    sample_rate = 32000
    row_samples = 32000

    def row(self, samples: np.ndarray) -> np.ndarray:
        """(3, 32) float32."""
        thirds = np.stack(np.array_split(samples[:31998], 3))  # (3, 10666)
        power = np.abs(np.fft.rfft(thirds))[:, 1:]  # (3, 5333)
        bands = np.stack([band.mean(1) for band in np.array_split(power, 32, axis=1)], 1)
        return np.log(bands + 0.01).astype(np.float32)


@MODELS.register_module()
class ThreeTokenEncoder(BaseModule):
    """Three tokens a frame."""

    out_channels = 128

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(32, self.out_channels)

    def forward(self, audio: Tensor) -> Tensor:
        """(M, 3, 32) to (M, 3, Da)."""
        return self.proj(audio).relu()


# ------------------------------------------------------------------ fusion over time
@MODELS.register_module()
class TemporalFusion(BaseModule):
    """Every frame sees the mean sound of its whole clip."""

    def __init__(self, visual_channels: int, audio_channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(audio_channels, visual_channels)

    def forward(self, visual: Tensor, audio: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
        """(B * T, L, C) and (B * T, S, Da)."""
        clip = audio.unflatten(0, (-1, num_frames)).mean((1, 2))  # (B, Da)
        clip = clip.repeat_interleave(num_frames, 0)[:, None]  # (B * T, 1, Da)
        return visual + self.proj(clip), audio


# ------------------------------------------------------------------ dense head
@MODELS.register_module()
class PlainDenseHead(BaseModule):
    """Logits of background and every class of the training vocabulary, from f4 and the sound."""

    needs_audio = True

    def __init__(self, in_channels: int, audio_channels: int, num_classes: int) -> None:
        super().__init__()
        self.out_channels = self.num_classes = num_classes
        self.audio = nn.Linear(audio_channels, in_channels)
        self.conv = nn.Conv2d(in_channels, num_classes, 1)
        self.align_corners = False

    def forward(self, x: tuple[Sequence[Tensor], Tensor]) -> Tensor:
        """Logits (B, T, K, h4, w4)."""
        feats, audio = x
        batch, frames = audio.shape[:2]
        audio = self.audio(audio).flatten(0, 1)[..., None, None]  # (B * T, c, 1, 1)
        return self.conv(feats[0] * audio).unflatten(0, (batch, frames))

    def loss(self, x: tuple, data_samples: list, train_cfg: object = None) -> dict[str, Tensor]:
        """Cross-entropy of all pixels."""
        labels = torch.stack([s.gt_sem_seg.data for s in data_samples]).flatten(0, 1).long()
        logits = F.interpolate(self(x).flatten(0, 1), labels.shape[-2:], mode='bilinear')
        return dict(loss_ce=F.cross_entropy(logits, labels, ignore_index=255))

    def predict(self, x: tuple, batch_img_metas: object = None, test_cfg: object = None) -> Tensor:
        """Logits (B, T, K, h4, w4)."""
        return self(x)


# ------------------------------------------------------------------ query decoder
class _Queries(BaseModule):
    """Learned queries that read the mean pixel of each frame; masks by their product with f4."""

    needs_audio = False

    def __init__(self, in_channels: int, num_queries: int) -> None:
        super().__init__()
        self.num_classes, self.out_channels, self.align_corners = 1, 1, False
        self.query = nn.Embedding(num_queries, in_channels)
        self.score = nn.Linear(in_channels, 1)

    def forward(self, x: tuple[Sequence[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Scores (B, T, Q) and masks (B, Q, T, h4, w4), logits."""
        feats, audio = x
        f4 = feats[0].unflatten(0, (len(audio), -1))  # (B, T, c, h4, w4)
        query = self.query.weight + f4.mean((3, 4))[:, :, None]  # (B, T, Q, c)
        return self.score(query)[..., 0], torch.einsum('btqc,btchw->bqthw', query, f4)

    def loss(self, x: tuple, data_samples: list, train_cfg: object = None) -> dict[str, Tensor]:
        """The first query takes all foreground."""
        scores, masks = self(x)
        labels = torch.stack([s.gt_sem_seg.data for s in data_samples])  # (B, T, H, W)
        valid = labels != 255
        logits = F.interpolate(masks[:, 0], labels.shape[-2:], mode='bilinear')
        target = ((labels > 0) & valid).float()
        loss = F.binary_cross_entropy_with_logits(logits, target, weight=valid.float())
        return dict(loss_mask=loss, loss_score=F.softplus(-scores[..., 0]).mean())


@MODELS.register_module()
class PlainQueryHead(_Queries):
    """Queries of a clip."""

    def predict(self, x: tuple, batch_img_metas: object = None, test_cfg: object = None) -> list:
        """`scores` (Q,) and `masks` (Q, T, h4, w4) of each clip."""
        scores, masks = self(x)
        scores = scores.sigmoid().mean(1)
        return [InstanceData(scores=s, masks=m) for s, m in zip(scores, masks, strict=True)]


# ------------------------------------------------------------------ per-frame queries and their tracker
@MODELS.register_module()
class PerFrameQueryHead(_Queries):
    """Queries of each frame by itself, in an order of their own."""

    per_frame = True

    def predict(self, x: tuple, batch_img_metas: object = None, test_cfg: object = None) -> list:
        """For each clip, a list of T frames with `scores` (Q,), `masks` (Q, 1, h4, w4) and `embeddings`."""
        scores, masks = self(x)
        clips = []
        for score, mask in zip(scores.sigmoid(), masks.transpose(1, 2), strict=True):
            frames = []
            for t, (s, m) in enumerate(zip(score, mask, strict=True)):
                order = torch.arange(len(s), device=s.device).roll(t)  # another order in each frame
                frame = InstanceData(scores=s, masks=m[:, None], embeddings=self.query.weight)
                frames.append(frame[order])
            clips.append(frames)
        return clips


@MODELS.register_module()
class NearestTracker(BaseModule):
    """Each query goes on with the one of the next frame whose embedding is nearest."""

    def forward(self, frames: list[InstanceData]) -> InstanceData:
        """One order over all frames: `scores` (Q,) and `masks` (Q, T, h4, w4)."""
        ordered = [frames[0]]
        for frame in frames[1:]:
            distance = torch.cdist(ordered[-1].embeddings, frame.embeddings)
            ordered.append(frame[distance.argmin(1)])
        return InstanceData(
            scores=torch.stack([frame.scores for frame in ordered]).mean(0),
            masks=torch.cat([frame.masks for frame in ordered], 1),
        )


# ------------------------------------------------------------------ classifier
@MODELS.register_module()
class MaskedFrameClassifier(OpenVocabularyClassifier):
    """Embeds a frame once, weighted by the mask: no crops."""

    def embed_masks(self, frames: Tensor, queries: InstanceData, pad_shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Embeddings of the masked frames at CLIP's size."""
        masks = resize_masks(queries.masks, pad_shape, tuple(frames.shape[-2:])).sigmoid()
        valid = (masks > 0.5).flatten(2).any(-1)
        query, frame = valid.nonzero(as_tuple=True)
        pictures = frames[frame].float() * masks[query, frame][:, None]  # (M, 3, h, w)
        size = (self.image_size, self.image_size)
        return self.encode(F.interpolate(pictures, size, mode='area')), valid
