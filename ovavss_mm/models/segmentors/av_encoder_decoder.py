# SPDX-License-Identifier: Apache-2.0
"""OV-AVSS as one model: frames and sound in, label maps out (paper figure 3)."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

import torch
from mmengine.structures import InstanceData, PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from .label_map import best_pairs, paint_pairs, pair_masks

PRECISIONS = ('float32', 'bfloat16')
STAGES = ('backbone', 'neck', 'pixel_decoder', 'decoder', 'clip')
TEST_CFG = dict(window=5, max_pairs=10, score_thr=0.3, return_masks=False)


def group_by(items: Iterable, key: Callable[[object], Hashable]) -> list[list]:
    """Items of equal key together, groups in order of first appearance."""
    groups = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.values())


def _check_test_cfg(cfg: dict) -> None:
    """Raise ValueError if ``test_cfg`` has another key, or a value of another kind."""
    unknown = set(cfg) - set(TEST_CFG)
    counts = (cfg['window'], cfg['max_pairs'])
    if unknown or any(not _is_number(count, int) or count < 1 for count in counts):
        raise ValueError(
            f'test_cfg has the keys {tuple(TEST_CFG)}, window and max_pairs whole numbers of at least 1, got {cfg}'
        )
    thr = cfg['score_thr']
    if not _is_number(thr, (int, float)) or math.isnan(thr):
        raise ValueError(f'test_cfg.score_thr must be a number, got {thr!r}')


def _is_number(value: object, kind: type | tuple[type, ...]) -> bool:
    """Whether a value is a number of a kind; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


@MODELS.register_module()
class AVEncoderDecoder(EncoderDecoder):
    """Backbone and audio encoder, fusion neck, audio-guided decoder, open-vocabulary classifier.

    Clips of equal shape go through the network together, others one after the other, so each clip of a
    batch gets exactly what it gets alone.

    Args:
        backbone: config of the image backbone.
        audio_encoder: config of the audio encoder; None for a model that hears nothing, whose neck has no fusion and
            whose decoder no audio prompt.
        neck: config of the fusion neck.
        decode_head: config of the decoder.
        classifier: config of the classifier; None for a model that is only trained.
        data_preprocessor: config of the data preprocessor.
        train_cfg: not used; the host's key.
        test_cfg: ``window`` frames that the network sees at a time (longer clips are cut), ``max_pairs`` and
            ``score_thr`` of the label map, ``return_masks`` for the masks of painted pairs.
        init_cfg: as in mmengine.
        precision: ``'float32'``, or ``'bfloat16'`` for autocast in training and testing, on a CPU and a GPU.
            Sampling points, norms, losses, matching and similarities stay in float32.
        compile: stages that torch.compile translates, of ``STAGES``; needs a C++ compiler.

    Raises:
        ValueError: an unknown stage, precision or key of ``test_cfg``, or a value of it out of range; a neck or decoder
            that needs audio without an encoder of it.
    """

    def __init__(
        self,
        backbone: dict,
        audio_encoder: dict | None,
        neck: dict,
        decode_head: dict,
        classifier: dict | None = None,
        data_preprocessor: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
        precision: str = 'float32',
        compile: Sequence[str] = (),
    ) -> None:
        test_cfg = dict(TEST_CFG, **(test_cfg or {}))
        if precision not in PRECISIONS or not set(compile) <= set(STAGES):
            raise ValueError(
                f'precision must be of {PRECISIONS}, compile of {STAGES}, got {precision!r}, {compile}'
            )
        super().__init__(
            backbone=backbone,
            neck=neck,
            decode_head=decode_head,
            data_preprocessor=data_preprocessor,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            init_cfg=init_cfg,
        )
        self.precision = precision
        self.audio_encoder = None if audio_encoder is None else MODELS.build(audio_encoder)
        self._check_audio()
        self.classifier = None if classifier is None else MODELS.build(classifier)
        _check_test_cfg(test_cfg)
        for stage in compile:
            for module in self._modules_of(stage):
                module.compile()

    def _check_audio(self) -> None:
        """Raise ValueError if a stage needs audio that is not there."""
        prompt, fusion = self.decode_head.transformer_decoder.audio_prompt, self.neck.fusion
        if self.audio_encoder is None and (fusion is not None or prompt != 'none'):
            raise ValueError(
                "a model without audio_encoder needs neck.fusion=None and transformer_decoder.audio_prompt='none', "
                f'got {type(fusion).__name__} and {prompt!r}'
            )

    def _modules_of(self, stage: str) -> list[nn.Module]:
        """Modules whose forward passes are a stage."""
        if stage == 'clip':
            clip = getattr(self.classifier, 'clip', None)
            return [] if clip is None else [clip.visual]
        if stage == 'decoder':
            return list(self.decode_head.transformer_decoder.layers)
        return [
            self.decode_head.pixel_decoder if stage == 'pixel_decoder' else getattr(self, stage)
        ]

    def forward(
        self,
        inputs: dict[str, list[Tensor]],
        data_samples: list[SegDataSample] | None = None,
        mode: str = 'tensor',
    ) -> object:
        """As the host's, in the model's precision.

        Args:
            inputs: ``imgs``, ``frames`` and ``audio``, lists of B, as the data preprocessor gives them.
            data_samples: B samples.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.

        Returns:
            What :meth:`loss`, :meth:`predict` or :meth:`_forward` return.
        """
        if self.precision == 'float32':  # whatever is around it, such as an AmpOptimWrapper, holds
            return super().forward(inputs, data_samples, mode)
        with torch.autocast(inputs['imgs'][0].device.type, dtype=torch.bfloat16):
            return super().forward(inputs, data_samples, mode)

    def extract_feat(self, imgs: Tensor, audio: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Features of B clips of one shape.

        Args:
            imgs: (B, T, 3, H, W) float32 normalised.
            audio: (B, T, 1, 96, 64) log-mel patches or (B, T, Da) embeddings.

        Returns:
            Maps f4, f8, f16, f32, each (B * T, c, h, w), and audio (B, T, Da), both fused; (B, T, 0) of a model
            without audio encoder.
        """
        batch, audio = len(imgs), audio.flatten(0, 1)
        audio = audio.flatten(1)[:, :0] if self.audio_encoder is None else self.audio_encoder(audio)
        feats, audio = self.neck(self.backbone(imgs.flatten(0, 1)), audio)
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
        logits = pairs.pop('masks')
        if self.test_cfg['return_masks']:
            pairs_of = InstanceData(masks=logits)
            masks = list(pair_masks(pairs_of, frames, pad_shape, sample.ori_shape))
            pairs.masks = torch.stack(masks) if masks else label_map[None][:0] > 0
        return label_map, pairs

    def _forward(self, inputs: dict[str, list[Tensor]], data_samples: object = None) -> object:
        """Raw predictions of clips of one shape, see the decode head."""
        return self.decode_head(
            self.extract_feat(torch.stack(inputs['imgs']), torch.stack(inputs['audio']))
        )
