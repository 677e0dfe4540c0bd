# SPDX-License-Identifier: Apache-2.0
"""OV-AVSS as one model: frames and sound in, label maps out (paper figure 3)."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable

import torch
from mmengine.structures import InstanceData, PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from .label_map import best_pairs, paint_pairs


def group_by(items: Iterable, key: Callable[[object], Hashable]) -> list[list]:
    """Items of equal key together, groups in order of first appearance."""
    groups = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.values())


@MODELS.register_module()
class AVEncoderDecoder(EncoderDecoder):
    """Backbone and audio encoder, fusion neck, audio-guided decoder, open-vocabulary classifier.

    Clips of equal shape go through the network together, others one after the other, so each clip of a
    batch gets exactly what it gets alone.

    Args:
        backbone: config of the image backbone.
        audio_encoder: config of the audio encoder.
        neck: config of the fusion neck.
        decode_head: config of the decoder.
        classifier: config of the classifier; None for a model that is only trained.
        data_preprocessor: config of the data preprocessor.
        train_cfg: not used; the host's key.
        test_cfg: ``window`` frames that the network sees at a time (longer clips are cut), ``max_pairs`` and
            ``score_thr`` of the label map.
        init_cfg: as in mmengine.
    """

    def __init__(
        self,
        backbone: dict,
        audio_encoder: dict,
        neck: dict,
        decode_head: dict,
        classifier: dict | None = None,
        data_preprocessor: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            neck=neck,
            decode_head=decode_head,
            data_preprocessor=data_preprocessor,
            train_cfg=train_cfg,
            test_cfg=dict(dict(window=5, max_pairs=10, score_thr=0.3), **(test_cfg or {})),
            init_cfg=init_cfg,
        )
        self.audio_encoder = MODELS.build(audio_encoder)
        self.classifier = None if classifier is None else MODELS.build(classifier)
        if self.test_cfg['window'] < 1 or self.test_cfg['max_pairs'] < 1:
            raise ValueError(
                f'window and max_pairs of test_cfg must be at least 1, got {self.test_cfg}'
            )

    def extract_feat(self, imgs: Tensor, audio: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Features of B clips of one shape.

        Args:
            imgs: (B, T, 3, H, W) float32 normalised.
            audio: (B, T, 1, 96, 64) log-mel patches or (B, T, Da) embeddings.

        Returns:
            Maps f4, f8, f16, f32, each (B * T, c, h, w), and audio (B, T, Da), both fused.
        """
        batch = len(imgs)
        feats, audio = self.neck(
            self.backbone(imgs.flatten(0, 1)), self.audio_encoder(audio.flatten(0, 1))
        )
        return feats, audio.unflatten(0, (batch, -1))

    def loss(
        self, inputs: dict[str, list[Tensor]], data_samples: list[SegDataSample]
    ) -> dict[str, Tensor]:
        """Losses of B clips of any shapes, each the mean over clips.

        Args:
            inputs: ``imgs`` and ``audio``, lists of B, as the data preprocessor gives them.
            data_samples: with ``gt_sem_seg``.

        Returns:
            Names to scalars, see the decode head.
        """
        total = defaultdict(float)
        clips = zip(inputs['imgs'], inputs['audio'], data_samples, strict=True)
        for group in group_by(clips, lambda clip: (clip[0].shape, clip[1].shape)):
            imgs, audio, samples = zip(*group, strict=True)
            losses = self._decode_head_forward_train(
                self.extract_feat(torch.stack(imgs), torch.stack(audio)), list(samples)
            )
            for name, value in losses.items():
                total[name] = total[name] + value * (len(group) / len(data_samples))
        return dict(total)

    def predict(
        self, inputs: dict[str, list[Tensor]], data_samples: list[SegDataSample]
    ) -> list[SegDataSample]:
        """Label maps of B clips of any shapes.

        Args:
            inputs: ``imgs``, ``frames`` and ``audio``, lists of B.
            data_samples: metainfo ``vocabulary``, the names, and ``ori_shape``, the size of the label map.

        Returns:
            The samples with ``pred_sem_seg`` (T, H, W) uint8 (int16 for 255 names and more): 0 background, i + 1
            name i; and ``pred_queries``: the pairs of query and name that were painted, with ``window_start`` (M,),
            the first frame of the window in which each was found.

        Raises:
            ValueError: a sample without vocabulary, or a model without classifier.
        """
        if self.classifier is None:
            raise ValueError('this model has no classifier: set model.classifier to predict names')
        for sample in data_samples:
            if not sample.get('vocabulary'):
                raise ValueError(
                    f'clip {sample.get("clip_id", "without a name")} has an empty vocabulary: give metainfo '
                    '`vocabulary`, the names to look for'
                )
        windows = [
            (index, start)
            for index, clip in enumerate(inputs['imgs'])
            for start in range(0, len(clip), self.window)
        ]
        parts = {}
        shapes = {
            window: tuple(self._cut(inputs[key], window).shape for key in ('imgs', 'audio'))
            for window in windows
        }
        for group in group_by(windows, shapes.get):
            # a long clip is no larger batch than a short one
            for at in range(0, len(group), len(data_samples)):
                chunk = group[at : at + len(data_samples)]
                for window, queries in zip(
                    chunk, self._predict_queries(inputs, chunk), strict=True
                ):
                    frames = self._cut(inputs['frames'], window)
                    parts[window] = self._name_pixels(frames, queries, data_samples[window[0]])
        for index, sample in enumerate(data_samples):
            own = [window for window in windows if window[0] == index]
            maps, pairs = zip(*[parts[window] for window in own], strict=True)
            for (_, start), found in zip(own, pairs, strict=True):
                found.window_start = torch.full_like(found.labels, start)
            sample.set_data(
                dict(
                    pred_sem_seg=PixelData(data=torch.cat(maps)),
                    pred_queries=InstanceData.cat(list(pairs)),
                )
            )
        return data_samples

    @property
    def window(self) -> int:
        """T of the windows into which longer clips are cut."""
        return self.test_cfg['window']

    def _cut(self, clips: list[Tensor], window: tuple[int, int]) -> Tensor:
        """Frames, or rows of audio, of a window: index of its clip, and its first frame."""
        index, start = window
        return clips[index][start : start + self.window]

    def _predict_queries(
        self, inputs: dict[str, list[Tensor]], windows: list[tuple[int, int]]
    ) -> list[InstanceData]:
        """Queries of windows of one shape."""
        imgs, audio = (
            torch.stack([self._cut(inputs[key], window) for window in windows])
            for key in ('imgs', 'audio')
        )
        return self.decode_head.predict(self.extract_feat(imgs, audio))

    def _name_pixels(
        self, frames: Tensor, queries: InstanceData, sample: SegDataSample
    ) -> tuple[Tensor, InstanceData]:
        """Label map (T, H, W) at ``ori_shape`` and painted pairs of one window of frames (T, 3, h, w)."""
        vocabulary = sample.vocabulary
        pad_shape = sample.get('pad_shape', tuple(frames.shape[-2:]))
        named = self.classifier(frames, queries, vocabulary, pad_shape)
        pairs = best_pairs(named, self.test_cfg['max_pairs'], self.test_cfg['score_thr'])
        label_map = paint_pairs(pairs, frames, pad_shape, sample.ori_shape, len(vocabulary))
        pairs.pop('masks')
        return label_map, pairs

    def _forward(self, inputs: dict[str, list[Tensor]], data_samples: object = None) -> object:
        """Raw predictions of clips of one shape, see the decode head."""
        return self.decode_head(
            self.extract_feat(torch.stack(inputs['imgs']), torch.stack(inputs['audio']))
        )
