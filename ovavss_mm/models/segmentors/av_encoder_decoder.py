# SPDX-License-Identifier: Apache-2.0
"""The whole model: frames and sound in, label maps out (paper Figure 2)."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from mmengine.structures import InstanceData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import Tensor

from .clip_segmentor import ClipSegmentor, Found, checked_test_cfg, frame_shapes, group_by, refuse_unread
from .label_map import best_pairs, dense_pairs, original_logits, resize_pairs


@MODELS.register_module()
class AVEncoderDecoder(ClipSegmentor, EncoderDecoder):
    """mmseg's encoder-decoder for clips of video with sound; see :mod:`ovavss_mm.models.interfaces` for its parts.

    Clips of equal shape go through the network together, others one after the other, so each clip of a batch gets
    exactly what it gets alone, but for a neck's loss that compares clips.

    Args:
        backbone (dict): config of the image backbone.
        decode_head (dict): config of the decode head, of queries or dense.
        neck (dict, optional): config of the fusion neck. None: maps and audio pass as they are. Defaults to None.
        audio_encoder (dict, optional): config of the audio encoder. None: a model without sound. Defaults to None.
        tracker (dict, optional): config of the tracker that gives queries of single frames one order over a clip, for
            heads that are ``per_frame``. Defaults to None.
        classifier (dict, optional): config of the classifier of queries. None for dense heads, and for a model that is
            only trained. Defaults to None.
        refiner (dict, optional): config of what makes the masks of queries finer before they are named. None: they stay
            as they are. Defaults to None.
        data_preprocessor (dict, optional): config of the data preprocessor. Defaults to None.
        auxiliary_head (dict, optional): as in mmseg. Defaults to None.
        train_cfg (dict, optional): mmseg's key; nothing reads it, so it must be empty. Defaults to None.
        test_cfg (dict, optional): ``mode``, ``'slide'`` over time or ``'whole'`` clips; ``window``, T of 'slide', and
            ``stride`` in frames (None: the window); ``max_pairs`` and ``score_thr`` of the label map; ``return_masks``
            of pairs. Defaults to windows of 5 frames.
        init_cfg (dict, optional): as in mmengine. Defaults to None.
        pretrained (None): mmseg's ``init_model`` sets it; weights are named by the parts' ``init_cfg``.

    Raises:
        ValueError: a wrong key or value in ``test_cfg``; keys in ``train_cfg``; weights in ``pretrained``; a neck or
            head that needs audio without an audio encoder; a tracker without a head of single frames, or such a head
            without a tracker; a refiner without a classifier; a classifier that reads a map of CLIP which the backbone
            does not give; text embeddings of another width than the classifier's.
    """

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        neck: dict | None = None,
        audio_encoder: dict | None = None,
        tracker: dict | None = None,
        classifier: dict | None = None,
        refiner: dict | None = None,
        data_preprocessor: dict | None = None,
        auxiliary_head: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
        pretrained: None = None,
    ) -> None:
        test_cfg = checked_test_cfg(test_cfg or {})
        refuse_unread(train_cfg, pretrained)
        super().__init__(
            backbone=backbone,
            decode_head=decode_head,
            neck=neck,
            auxiliary_head=auxiliary_head,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.audio_encoder = None if audio_encoder is None else MODELS.build(audio_encoder)
        self.tracker = None if tracker is None else MODELS.build(tracker)
        self.classifier = None if classifier is None else MODELS.build(classifier)
        self.refiner = None if refiner is None else MODELS.build(refiner)
        self._check_parts()

    def _check_parts(self) -> None:
        """Raise ValueError if parts do not fit each other."""
        parts = dict(neck=getattr(self, 'neck', None), decode_head=self.decode_head)
        needy = [name for name, part in parts.items() if getattr(part, 'needs_audio', False)]
        if self.audio_encoder is None and needy:
            raise ValueError(
                f'a model without audio_encoder cannot have a {" and a ".join(needy)} that needs audio: set '
                "neck.fusion=None and decode_head.transformer_decoder.audio_prompt.type='NoAudioPrompt', or others"
            )
        if (self.tracker is not None) != getattr(self.decode_head, 'per_frame', False):
            head = type(self.decode_head).__name__
            raise ValueError(
                f'{head} gives queries of single frames: set model.tracker to predict clips'
                if self.tracker is None
                else f'a tracker needs a head of single frames, {head} predicts whole clips: set model.tracker=None'
            )
        if self.refiner is not None and self.classifier is None:
            raise ValueError('a refiner makes masks of queries finer, which a classifier names: set model.refiner=None')
        self._check_text()
        wanted = self.classifier.dense_channels if getattr(self.classifier, 'uses_backbone', False) else None
        if wanted is not None and wanted != getattr(self.backbone, 'dense_channels', None):
            raise ValueError(
                f'{type(self.classifier).__name__} reads a last map of {wanted} channels of a CLIP, which the backbone '
                f'{type(self.backbone).__name__} does not give: take CLIPResNet, or set classifier.share_backbone=False'
            )

    def _check_text(self) -> None:
        """Raise ValueError if the head's text embeddings do not fit the classifier's."""
        given, wanted = (getattr(part, 'text_channels', None) for part in (self.decode_head, self.classifier))
        needed = getattr(self.classifier, 'needs_text', False)
        if given is not None and not hasattr(self.classifier, 'text_rows'):
            raise ValueError(f'decode_head.text_channels={given} needs a classifier with a text tower')
        if (needed or given is not None) and wanted is not None and given != wanted:
            raise ValueError(
                f'the text tower of {type(self.classifier).__name__} gives {wanted} channels: set '
                f'decode_head.text_channels={wanted}, got {given}'
            )

    def _init_decode_head(self, decode_head: dict) -> None:
        """Build the head; what mmseg asks of its own heads, others need not have."""
        self.decode_head = MODELS.build(decode_head)
        for key in ('align_corners', 'num_classes', 'out_channels'):
            setattr(self, key, getattr(self.decode_head, key, None))

    # ------------------------------------------------------------------ network
    def extract_feat(self, imgs: Tensor, audio: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Extract and fuse the features of B clips of one shape.

        Args:
            imgs (Tensor): (B, T, 3, H, W) float32, normalised.
            audio (Tensor): (B, T, ...) float32, what the audio encoder takes.

        Returns:
            tuple: maps, each (B * T, c, h, w), f4 first, and audio (B, T, Da) or (B, T, S, Da); (B, T, 0) without audio
            encoder.
        """
        return self._fuse(self.backbone(imgs.flatten(0, 1)), self._encode_audio(audio), audio.shape[1])

    def _encode_audio(self, audio: Tensor) -> Tensor:
        """Audio (B * T, Da) or (B * T, S, Da) of (B, T, ...); (B * T, 0) without audio encoder."""
        audio = audio.flatten(0, 1)
        return audio.flatten(1)[:, :0] if self.audio_encoder is None else self.audio_encoder(audio)

    def _fuse(self, feats: tuple[Tensor, ...], audio: Tensor, frames: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """:meth:`extract_feat` of the backbone's maps, each (B * T, c, h, w), and encoded audio of T frames a clip."""
        if self.with_neck:
            feats, audio = self.neck(feats, audio, frames)
        return feats, audio.unflatten(0, (-1, frames))

    def loss(self, inputs: dict[str, list[Tensor]], data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses of B clips of any shapes, each the mean over clips.

        Args:
            inputs (dict): ``imgs`` and ``audio``, lists of B, as the data preprocessor gives them.
            data_samples (list[SegDataSample]): with ``gt_sem_seg``.

        Returns:
            dict[str, Tensor]: names to scalars, see the heads.
        """
        total: dict[str, Any] = defaultdict(float)
        clips = zip(inputs['imgs'], inputs['audio'], data_samples, strict=True)
        for group in group_by(clips, lambda clip: (clip[0].shape, clip[1].shape, clip[2].gt_sem_seg.shape)):
            imgs, audio, samples = zip(*group, strict=True)
            imgs, audio = torch.stack(imgs), torch.stack(audio)
            feats, audio = self.backbone(imgs.flatten(0, 1)), self._encode_audio(audio)
            x = self._fuse(feats, audio, imgs.shape[1])
            self._add_text(samples)
            losses = self._decode_head_forward_train(x, list(samples))
            if self.with_neck and hasattr(self.neck, 'loss'):
                losses.update(add_prefix(self.neck.loss(feats, audio, samples), 'neck'))
            if self.with_auxiliary_head:
                losses.update(self._auxiliary_head_forward_train(x, list(samples)))
            for name, value in losses.items():
                total[name] = total[name] + value * (len(group) / len(data_samples))
        return dict(total)

    def _add_text(self, samples: Iterable[SegDataSample]) -> None:
        """For a head of text embeddings, give samples what their names are compared with.

        Metainfo ``text_rows`` (N', D), whose products with a query's embedding are the logits of the N' base names (all
        names where none is known as base), and ``text_columns`` (N,) int64, the place of each name among them or -1.
        """
        if getattr(self.decode_head, 'text_embed', None) is None:
            return
        for sample in samples:
            names = sample.vocabulary
            base = set(getattr(names, 'base', ()) or names)
            used = [i for i, name in enumerate(names) if name in base]
            rows = self.classifier.text_rows(names)[used]
            columns = torch.full((len(names),), -1, device=rows.device)
            columns[used] = torch.arange(len(used), device=rows.device)
            sample.set_metainfo(dict(text_rows=rows, text_columns=columns))

    def _forward(self, inputs: dict[str, list[Tensor]], data_samples: object = None) -> object:
        """Raw predictions of clips of one shape, see the decode head."""
        return self.decode_head(self.extract_feat(torch.stack(inputs['imgs']), torch.stack(inputs['audio'])))

    def encode_decode(
        self, inputs: dict[str, list[Tensor]], batch_img_metas: list[dict] | None = None
    ) -> list[InstanceData | Tensor]:
        """Encode B windows of one shape and decode them.

        Args:
            inputs (dict): ``imgs``, ``audio`` and what the classifier hears, lists of B.
            batch_img_metas (list[dict], optional): metainfo of B samples, for the head. Defaults to None.

        Returns:
            list: for each window, the queries of all its frames, InstanceData with ``scores`` (Q,) and ``masks``
            (Q, T, h4, w4); or the logits (T, K, h, w) of a dense head.
        """
        imgs, audio = torch.stack(inputs['imgs']), torch.stack(inputs['audio'])
        given = {}  # to the classifier
        if getattr(self.classifier, 'uses_backbone', False):
            feats = self.backbone(imgs.flatten(0, 1))
            given['dense_map'] = feats[-1].unflatten(0, imgs.shape[:2])
            x = self._fuse(feats, self._encode_audio(audio), audio.shape[1])
        else:
            x = self.extract_feat(imgs, audio)
        predictions: list[Any] = self._decode(x, batch_img_metas)
        if getattr(self.classifier, 'uses_sound', False) and 'naming_audio' in inputs:
            given['naming_audio'] = inputs['naming_audio']
        for key, parts in given.items():
            for prediction, part in zip(predictions, parts, strict=True):
                prediction.set_metainfo({key: part})
        return predictions

    def _decode(self, x: tuple[tuple[Tensor, ...], Tensor], metas: list[dict] | None) -> list[InstanceData | Tensor]:
        """Predictions of fused maps and audio, queries of single frames linked."""
        predictions = list(self.decode_head.predict(x, metas, self.test_cfg))
        return predictions if self.tracker is None else [self.tracker(p) for p in predictions]

    # ------------------------------------------------------------------ testing
    @property
    def hears(self) -> bool:  # type: ignore[override]  # it depends on the parts
        """Whether it takes sound."""
        return self.audio_encoder is not None or getattr(self.classifier, 'uses_sound', False)

    @property
    def is_binary(self) -> bool:  # type: ignore[override]
        """Whether it tells only what sounds from what does not."""
        return getattr(self.decode_head, 'dense_classes', None) == 1

    def find(self, inputs: dict[str, list[Tensor]], metas: list[dict]) -> Iterator[Found]:
        """See :class:`ClipSegmentor`; dense logits of one class are kept.

        Raises:
            ValueError: queries without the tracker or classifier that they need, or a dense head of other classes.
        """
        predictions = self.encode_decode(inputs, metas)
        for frames, prediction, meta in zip(inputs['frames'], predictions, metas, strict=True):
            logits = None
            if isinstance(prediction, Tensor) and prediction.shape[1] == 1:
                logits = original_logits(prediction, *frame_shapes(frames, meta))[:, 0].float()
            yield Found(self._name_pairs(frames, prediction, meta), logits)

    def _name_pairs(self, frames: Tensor, prediction: InstanceData | Tensor, meta: dict) -> InstanceData:
        """Pairs with masks (M, T, H, W) of the prediction for a window of frames (T, 3, h, w)."""
        names, shapes = meta['vocabulary'], frame_shapes(frames, meta)
        if isinstance(prediction, Tensor):
            count = len(prediction[0])
            if count != len(names) + 1 and (count, len(names)) != (1, 1):
                raise ValueError(
                    f'the head tells background and {max(count - 1, 1)} classes apart, the vocabulary has '
                    f'{len(names)} names: a dense model predicts those it was trained with'
                )
            return dense_pairs(prediction, *shapes)
        if not isinstance(prediction, InstanceData):
            raise ValueError('the head gives queries of single frames: its class must say per_frame = True')
        if self.classifier is None:
            raise ValueError('this model has no classifier: set model.classifier to predict names')
        if self.refiner is not None:
            prediction = self.refiner(frames, prediction, shapes[1])
        named = self.classifier(frames, prediction, names, shapes[1])
        pairs = best_pairs(named, self.test_cfg['max_pairs'], self.test_cfg['score_thr'])
        return resize_pairs(pairs, *shapes)
