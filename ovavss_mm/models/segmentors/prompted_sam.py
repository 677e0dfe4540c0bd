# SPDX-License-Identifier: Apache-2.0
"""GAVS: SAM with sound as its prompt (Wang et al., AAAI 2024, arXiv 2309.07929)."""

from collections.abc import Iterator

import torch
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn import functional as F

from ..foundation.adapted_sam import AdaptedSAM
from ..losses.sounding_object_loss import IGNORED, audio_visual_triplet, frame_bce
from .clip_segmentor import ClipSegmentor, Found, checked_test_cfg, frame_shapes, refuse_unread
from .label_map import best_pairs, dense_pairs, mask_quality, original_logits, resize_pairs

NOISES = ('none', 'add', 'replace')
_HIDDEN = 512  # of the projection of sound, and of the visual cue


@MODELS.register_module()
class PromptedSAM(ClipSegmentor):
    """GAVS: a frame's second of sound becomes one prompt of SAM, whose mask is what sounds in the frame.

    Frames are independent of each other. Without a classifier the classes are background and 'sounding'; with one,
    which the published model does not have, the mask of a clip is a query that it names.

    Args:
        sam (dict): arguments of the library's ``SamConfig``, see :class:`AdaptedSAM`.
        audio_encoder (dict): config of the audio encoder.
        tune_v (int): the first encoder block with an adapter that runs, see :class:`AdaptedSAM`. Defaults to 9.
        adapter_channels (int): width of the adapters. Defaults to 128.
        prompt_noise (str): what training does to an embedding of sound: 'none', 'add' Gaussian noise of the
            embedding's own deviation, or 'replace' it with that, as published. Defaults to 'add'.
        visual_cue (bool): whether the mean of the image embedding becomes a second prompt; not published. Defaults to
            False.
        triplet_weight (float): weight of the loss that brings sound near to what sounds, see
            :func:`audio_visual_triplet`; the paper has it, its code does not. Defaults to 0, without that loss.
        triplet_margin (float): of this loss; ours, as it is not published. Defaults to 0.5.
        classifier (dict, optional): config of a classifier that names the mask. Defaults to None.
        data_preprocessor (dict, optional): config of the data preprocessor. Defaults to None.
        test_cfg (dict, optional): see :func:`checked_test_cfg`. Defaults to None.
        init_cfg (dict, optional): of SAM's weights, see :class:`AdaptedSAM`. Defaults to None.
        train_cfg (None): mmseg's ``init_model`` sets it, as the next; nothing reads them.
        pretrained (None): see above.

    Raises:
        ImportError: the library ``transformers`` is not installed.
        ValueError: another ``prompt_noise``, a negative weight or margin, a classifier that needs more than masks, or
            see :class:`AdaptedSAM` and :func:`checked_test_cfg`.
    """

    def __init__(
        self,
        sam: dict,
        audio_encoder: dict,
        tune_v: int = 9,
        adapter_channels: int = 128,
        prompt_noise: str = 'add',
        visual_cue: bool = False,
        triplet_weight: float = 0.0,
        triplet_margin: float = 0.5,
        classifier: dict | None = None,
        data_preprocessor: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
        train_cfg: None = None,
        pretrained: None = None,
    ) -> None:
        refuse_unread(train_cfg, pretrained)
        super().__init__(data_preprocessor)
        if prompt_noise not in NOISES:
            raise ValueError(f'prompt_noise must be one of {", ".join(NOISES)}, got {prompt_noise!r}')
        if triplet_weight < 0 or triplet_margin < 0:
            raise ValueError(
                f'triplet_weight and triplet_margin cannot be negative, got {triplet_weight} and {triplet_margin}'
            )
        self.test_cfg = checked_test_cfg(test_cfg or {})
        self.prompt_noise, self.triplet_weight, self.triplet_margin = prompt_noise, triplet_weight, triplet_margin
        self.sam = AdaptedSAM(sam, tune_v, adapter_channels, init_cfg)
        self.audio_encoder = MODELS.build(audio_encoder)
        self.audio_prompt = _mlp(self.audio_encoder.out_channels, self.sam.channels)
        self.cue_prompt = _mlp(self.sam.channels, self.sam.channels) if visual_cue else None
        self.classifier = None if classifier is None else MODELS.build(classifier)
        needy = [key for key in ('uses_backbone', 'needs_text') if getattr(self.classifier, key, False)]
        if needy:
            raise ValueError(
                f'{type(self.classifier).__name__} reads more of a query than its mask ({needy[0]}), PromptedSAM gives '
                'no more: take CLIPSquareCropClassifier, or another one that looks at frames'
            )

    @property
    def is_binary(self) -> bool:  # type: ignore[override]  # it depends on the parts
        """Whether it tells only what sounds from what does not: it has no classifier."""
        return self.classifier is None

    @property
    def dense_classes(self) -> int | None:
        """1 for a binary model, which data of several names do not fit; None for one with a classifier."""
        return 1 if self.is_binary else None

    # ------------------------------------------------------------------ network
    def extract_feat(self, imgs: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Image embeddings and prompts of N frames.

        Args:
            imgs (Tensor): (N, 3, S, S) float32, normalised and padded.
            audio (Tensor): (N, ...) float32, what the audio encoder takes.

        Returns:
            tuple: (N, C, s, s) image embeddings; (N, P, C) prompts, that of the sound first.
        """
        maps = self.sam.encode(imgs)
        audio = self.audio_encoder(audio)  # (N, Da)
        if self.training and self.prompt_noise != 'none':
            # without a gradient through the deviation, which silence does not have
            noise = torch.randn_like(audio) * audio.std(-1, keepdim=True).detach()
            audio = noise if self.prompt_noise == 'replace' else audio + noise
        prompts = [self.audio_prompt(audio)]
        if self.cue_prompt is not None:
            cue = maps.mean((2, 3))
            prompts.append(cue + self.cue_prompt(cue))
        return maps, torch.stack(prompts, 1)  # (N, P, C)

    def encode_decode(self, imgs: Tensor, audio: Tensor) -> Tensor:
        """Logits (N, 1, 4s, 4s) of N frames with their audio, as of :meth:`extract_feat`."""
        return self.sam.decode(*self.extract_feat(imgs, audio))

    def _forward(self, inputs: dict[str, list[Tensor]], data_samples: object = None) -> Tensor:
        """Logits (N, 1, 4s, 4s) of all N frames of the clips."""
        return self.encode_decode(torch.cat(inputs['imgs']), torch.cat(inputs['audio']))

    # ------------------------------------------------------------------ training
    def loss(self, inputs: dict[str, list[Tensor]], data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses of B clips of any lengths: means over a clip's annotated frames, then over clips.

        Args:
            inputs (dict): ``imgs`` and ``audio``, lists of B, as the data preprocessor gives them.
            data_samples (list[SegDataSample]): with ``gt_sem_seg``, 0 or not, at the frames' own size, or padded with
                them. Frames without annotation do not go through the network.

        Returns:
            dict[str, Tensor]: ``loss_mask`` and, with ``triplet_weight``, ``loss_triplet``, scalars.
        """
        labels = [sample.gt_sem_seg.data for sample in data_samples]
        kept = [annotated_frames(x) for x in labels]
        imgs, audio = (
            torch.cat([x[keep] for x, keep in zip(inputs[key], kept, strict=True)]) for key in ('imgs', 'audio')
        )
        maps, prompts = self.extract_feat(imgs, audio)
        counts = [int(keep.sum()) for keep in kept]
        parts = [x.split(counts) for x in (self.sam.decode(maps, prompts), maps, prompts[:, 0])]
        losses = [
            self._clip_losses(logits, features, sound, label[keep], sample.metainfo)
            for logits, features, sound, label, keep, sample in zip(*parts, labels, kept, data_samples, strict=True)
        ]
        return {name: torch.stack([clip[name] for clip in losses]).mean() for name in losses[0]}

    def _clip_losses(self, logits: Tensor, maps: Tensor, audio: Tensor, labels: Tensor, meta: dict) -> dict:
        """Losses of a clip: logits (T, 1, 4s, 4s), maps (T, C, s, s), audio (T, C), labels (T, H, W)."""
        pad_shape, size = meta['pad_shape'], labels.shape[-2:]
        seen = pad_shape if size == pad_shape else meta['img_shape']  # labels may have been padded with the frames
        losses = dict(loss_mask=frame_bce(original_logits(logits, seen, pad_shape, size)[:, 0], labels).mean())
        if self.triplet_weight:
            shares = torch.stack([(labels > 0) & (labels != IGNORED), labels == 0], 1).float()  # (T, 2, H, W)
            shares = F.interpolate(shares, size=seen, mode='area')
            shares = F.pad(shares, (0, pad_shape[1] - seen[1], 0, pad_shape[0] - seen[0]))
            shares = F.adaptive_avg_pool2d(shares, (maps.shape[-2], maps.shape[-1]))  # (T, 2, s, s)
            triplet = audio_visual_triplet(audio, maps, shares[:, 0], shares[:, 1], self.triplet_margin)
            losses['loss_triplet'] = self.triplet_weight * triplet
        return losses

    # ------------------------------------------------------------------ testing
    def find(self, inputs: dict[str, list[Tensor]], metas: list[dict]) -> Iterator[Found]:
        """See :class:`ClipSegmentor`.

        Raises:
            ValueError: several names, and no classifier to tell them apart.
        """
        heard = inputs.get('naming_audio', [None] * len(metas))  # by a classifier that listens
        parts = (inputs['imgs'], inputs['audio'], inputs['frames'], heard, metas)
        for imgs, audio, frames, sound, meta in zip(*parts, strict=True):
            # frame after frame: attention over a whole frame is large
            pairs = zip(imgs.split(1), audio.split(1), strict=True)
            logits = torch.cat([self.encode_decode(*pair) for pair in pairs]).float()  # (T, 1, 4s, 4s)
            shapes, names = frame_shapes(frames, meta), meta['vocabulary']
            if self.classifier is not None:
                yield Found(self._name(logits, frames, sound, names, shapes))
            elif len(names) > 1:
                raise ValueError(
                    f'PromptedSAM tells what sounds from what does not, the vocabulary has {len(names)} names: give it '
                    "one, or the model a classifier; data sets of names have binary=True or task='s4' or 'ms3'"
                )
            else:
                yield Found(dense_pairs(logits, *shapes), original_logits(logits, *shapes)[:, 0])

    def _name(self, logits: Tensor, frames: Tensor, sound: Tensor | None, names: tuple, shapes: tuple) -> InstanceData:
        """Named pairs of the mask of a window, one query whose score is the mean probability in its mask."""
        masks = logits.transpose(0, 1)  # (T, 1, 4s, 4s) -> (1, T, 4s, 4s)
        query = InstanceData(scores=mask_quality(masks), masks=masks)
        if sound is not None:
            query.set_metainfo(dict(naming_audio=sound))
        named = self.classifier(frames, query, names, shapes[1])
        return resize_pairs(best_pairs(named, self.test_cfg['max_pairs'], self.test_cfg['score_thr']), *shapes)


def annotated_frames(labels: Tensor) -> Tensor:
    """Which frames (T,) of labels (T, H, W) have an annotated pixel; the first one, whose loss is 0, if none has."""
    known = (labels != IGNORED).flatten(1).any(1)
    known[0] |= ~known.any()
    return known


def _mlp(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two layers, of sizes as published."""
    return nn.Sequential(nn.Linear(in_channels, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, out_channels))
