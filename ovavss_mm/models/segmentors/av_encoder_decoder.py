# SPDX-License-Identifier: Apache-2.0
"""The whole model: frames and sound in, label maps out (paper Figure 2)."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData, PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from .label_map import best_pairs, dense_pairs, original_logits, resize_pairs
from .windows import Blender, group_windows

TEST_CFG = dict(mode='slide', window=5, stride=None, max_pairs=10, score_thr=0.3, return_masks=False)


class ClipWindow(NamedTuple):
    """Frames ``start`` to ``stop - 1`` of a clip of the batch; those before ``done`` are in no later window."""

    clip: int
    start: int
    stop: int
    done: int


@MODELS.register_module()
class AVEncoderDecoder(EncoderDecoder):
    """mmseg's encoder-decoder for clips of video with sound; see :mod:`ovavss_mm.models.interfaces` for its parts.

    Clips of equal shape go through the network together, others one after the other, so each clip of a batch gets
    exactly what it gets alone.

    Args:
        backbone (dict): config of the image backbone.
        decode_head (dict): config of the decode head, of queries or dense.
        neck (dict, optional): config of the fusion neck. None: maps and audio pass as they are. Defaults to None.
        audio_encoder (dict, optional): config of the audio encoder. None: a model without sound. Defaults to None.
        tracker (dict, optional): config of the tracker that gives queries of single frames one order over a clip, for
            heads that are ``per_frame``. Defaults to None.
        classifier (dict, optional): config of the classifier of queries. None for dense heads, and for a model that is
            only trained. Defaults to None.
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
            without a tracker; a classifier that reads a map of CLIP which the backbone does not give; text embeddings
            of another width than the classifier's.
    """

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        neck: dict | None = None,
        audio_encoder: dict | None = None,
        tracker: dict | None = None,
        classifier: dict | None = None,
        data_preprocessor: dict | None = None,
        auxiliary_head: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
        pretrained: None = None,
    ) -> None:
        test_cfg = checked_test_cfg(test_cfg or {})
        if train_cfg or pretrained:
            raise ValueError(
                f'nothing reads train_cfg and pretrained, got {train_cfg} and {pretrained}: weights are named by the '
                'init_cfg of a part, or load_from'
            )
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
        return self._fuse(self.backbone(imgs.flatten(0, 1)), audio)

    def _fuse(self, feats: Sequence[Tensor], audio: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """:meth:`extract_feat` of the backbone's maps, each (B * T, c, h, w), and audio (B, T, ...)."""
        (batch, frames), audio = audio.shape[:2], audio.flatten(0, 1)
        audio = audio.flatten(1)[:, :0] if self.audio_encoder is None else self.audio_encoder(audio)
        if self.with_neck:
            feats, audio = self.neck(feats, audio, frames)
        return feats, audio.unflatten(0, (batch, frames))

    def loss(self, inputs: dict[str, list[Tensor]], data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses of B clips of any shapes, each the mean over clips.

        Args:
            inputs (dict): ``imgs`` and ``audio``, lists of B, as the data preprocessor gives them.
            data_samples (list[SegDataSample]): with ``gt_sem_seg``.

        Returns:
            dict[str, Tensor]: names to scalars, see the heads.
        """
        total = defaultdict(float)
        clips = zip(inputs['imgs'], inputs['audio'], data_samples, strict=True)
        for group in group_by(clips, lambda clip: (clip[0].shape, clip[1].shape, clip[2].gt_sem_seg.shape)):
            imgs, audio, samples = zip(*group, strict=True)
            x = self.extract_feat(torch.stack(imgs), torch.stack(audio))
            self._add_text(samples)
            losses = self._decode_head_forward_train(x, list(samples))
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
            inputs (dict): ``imgs`` and ``audio``, lists of B.
            batch_img_metas (list[dict], optional): metainfo of B samples, for the head. Defaults to None.

        Returns:
            list: for each window, the queries of all its frames, InstanceData with ``scores`` (Q,) and ``masks``
            (Q, T, h4, w4); or the logits (T, K, h, w) of a dense head.
        """
        imgs, audio = torch.stack(inputs['imgs']), torch.stack(inputs['audio'])
        if not getattr(self.classifier, 'uses_backbone', False):
            return self._decode(self.extract_feat(imgs, audio), batch_img_metas)
        feats = self.backbone(imgs.flatten(0, 1))
        predictions = self._decode(self._fuse(feats, audio), batch_img_metas)
        for prediction, dense in zip(predictions, feats[-1].unflatten(0, imgs.shape[:2]), strict=True):
            prediction.set_metainfo(dict(dense_map=dense))
        return predictions

    def _decode(self, x: tuple[tuple[Tensor, ...], Tensor], metas: list[dict] | None) -> list[InstanceData | Tensor]:
        """Predictions of fused maps and audio, queries of single frames linked."""
        predictions = list(self.decode_head.predict(x, metas, self.test_cfg))
        return predictions if self.tracker is None else [self.tracker(p) for p in predictions]

    # ------------------------------------------------------------------ testing
    @property
    def window(self) -> int:
        """T of the windows that slide over a clip."""
        return self.test_cfg['window']

    def predict(self, inputs: dict[str, list[Tensor]], data_samples: list[SegDataSample]) -> list[SegDataSample]:
        """Label maps of B clips of any shapes.

        Args:
            inputs (dict): ``imgs``, ``frames`` and ``audio``, lists of B.
            data_samples (list[SegDataSample]): metainfo ``vocabulary``, the N class names, and ``ori_shape``, the size
                of the label map.

        Returns:
            list[SegDataSample]: the samples with ``pred_sem_seg`` (T, H, W) uint8 (int16 for 255 names and more): 0
            background, i + 1 name i; and ``pred_queries``, the painted pairs of query and name: ``labels``, ``scores``,
            ``sound_scores`` and ``window_start`` (M,), the first frame of the window in which each was found, what
            :func:`best_pairs` keeps of their queries, and ``masks`` (M, T, H, W) bool with ``return_masks``. A dense
            head of one class also leaves ``seg_logits`` (T, H, W) float32, of 'sounding'; where windows overlap, those
            of the later one.

        Raises:
            ValueError: a sample without vocabulary, or queries without the tracker or classifier that they need.
        """
        metas = [sample.metainfo for sample in data_samples]
        for meta in metas:
            if not meta.get('vocabulary'):
                raise ValueError(
                    f'clip {meta.get("clip_id", "without a name")} has an empty vocabulary: give metainfo '
                    '`vocabulary`, the names to look for'
                )
        return self.postprocess_result(self.inference(inputs, metas), data_samples)

    def inference(
        self, inputs: dict[str, list[Tensor]], batch_img_metas: list[dict]
    ) -> list[tuple[Tensor, InstanceData, Tensor | None]]:
        """Segment B clips of any shapes, in windows that slide over time or whole.

        Args:
            inputs (dict): ``imgs``, ``frames`` and ``audio``, lists of B.
            batch_img_metas (list[dict]): metainfo of B samples, see :meth:`predict`.

        Returns:
            list: for each clip, its label map (T, H, W), its painted pairs, and of a dense head of one class its logits
            (T, H, W), else None; see :meth:`predict`.
        """
        mode = self.slide_inference if self.test_cfg['mode'] == 'slide' else self.whole_inference
        return mode(inputs, batch_img_metas)

    def whole_inference(
        self, inputs: dict[str, list[Tensor]], batch_img_metas: list[dict]
    ) -> list[tuple[Tensor, InstanceData, Tensor | None]]:
        """:meth:`inference` on whole clips."""
        windows = [ClipWindow(i, 0, len(x), len(x)) for i, x in enumerate(inputs['imgs'])]
        return self._infer_windows(inputs, batch_img_metas, windows)

    def slide_inference(
        self, inputs: dict[str, list[Tensor]], batch_img_metas: list[dict]
    ) -> list[tuple[Tensor, InstanceData, Tensor | None]]:
        """:meth:`inference` in windows that slide over time; the last one is shifted back, never short."""
        stride = self.test_cfg['stride'] or self.window
        windows = [
            ClipWindow(i, window.numbers[0], window.numbers[-1] + 1, done)
            for i, clip in enumerate(inputs['imgs'])
            for (window,), done in group_windows(range(len(clip)), self.window, stride)
        ]
        return self._infer_windows(inputs, batch_img_metas, windows)

    def aug_test(self, *args: object, **kwargs: object) -> None:
        """Refuse test-time augmentation, which averages the logits of fixed classes."""
        raise NotImplementedError('AVEncoderDecoder has no test-time augmentation')

    def _infer_windows(
        self, inputs: dict[str, list[Tensor]], metas: list[dict], windows: list[ClipWindow]
    ) -> list[tuple[Tensor, InstanceData, Tensor | None]]:
        """Predictions of clips from their windows, which are in order of time and of one shape a clip."""

        def cut(key: str, window: ClipWindow) -> Tensor:
            return inputs[key][window.clip][window.start : window.stop]

        blenders = [Blender(len(meta['vocabulary'])) for meta in metas]
        maps: list[list[Tensor]] = [[] for _ in metas]
        pairs: list[list[InstanceData]] = [[] for _ in metas]
        logits: list[dict[int, Tensor]] = [{} for _ in metas]
        for group in group_by(windows, lambda w: (cut('imgs', w).shape, cut('audio', w).shape)):
            # a long clip is no larger batch than a short one
            for at in range(0, len(group), len(metas)):
                chunk = group[at : at + len(metas)]
                batch = {key: [cut(key, w) for w in chunk] for key in ('imgs', 'audio')}
                predictions = self.encode_decode(batch, [metas[w.clip] for w in chunk])
                for w, prediction in zip(chunk, predictions, strict=True):
                    found = self._name_pairs(cut('frames', w), prediction, metas[w.clip])
                    if isinstance(prediction, Tensor) and prediction.shape[1] == 1:
                        full = original_logits(prediction, *_shapes(cut('frames', w), metas[w.clip]))[:, 0]
                        logits[w.clip].update(zip(range(w.start, w.stop), full.float(), strict=True))
                    blenders[w.clip].add(list(range(w.start, w.stop)), found)
                    maps[w.clip] += [x for _, x, _ in blenders[w.clip].take(w.done)]
                    found.window_start = torch.full_like(found.labels, w.start)
                    if not self.test_cfg['return_masks']:  # masks at full size are large
                        found.pop('masks')
                    pairs[w.clip].append(found)
        full = [torch.stack([part[t] for t in sorted(part)]) if part else None for part in logits]
        return [(torch.stack(m), InstanceData.cat(p), x) for m, p, x in zip(maps, pairs, full, strict=True)]

    def _name_pairs(self, frames: Tensor, prediction: InstanceData | Tensor, meta: dict) -> InstanceData:
        """Pairs with masks (M, T, H, W) of the prediction for a window of frames (T, 3, h, w)."""
        names, shapes = meta['vocabulary'], _shapes(frames, meta)
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
        named = self.classifier(frames, prediction, names, shapes[1])
        pairs = best_pairs(named, self.test_cfg['max_pairs'], self.test_cfg['score_thr'])
        return resize_pairs(pairs, *shapes)

    def postprocess_result(
        self, results: list[tuple[Tensor, InstanceData, Tensor | None]], data_samples: list[SegDataSample]
    ) -> list[SegDataSample]:
        """Put what :meth:`inference` gives into the samples, see :meth:`predict`."""
        for sample, (label_map, pairs, logits) in zip(data_samples, results, strict=True):
            sample.set_data(dict(pred_sem_seg=PixelData(data=label_map), pred_queries=pairs))
            if logits is not None:
                sample.seg_logits = PixelData(data=logits)
        return data_samples


def _shapes(frames: Tensor, meta: dict) -> tuple[tuple[int, int], ...]:
    """Sizes of the frames (T, 3, h, w) without padding, of the padded input, and of the label map."""
    img_shape = tuple(frames.shape[-2:])
    return img_shape, meta.get('pad_shape', img_shape), tuple(meta['ori_shape'])


def group_by(items: Iterable, key: Callable[[object], Hashable]) -> list[list]:
    """Group items of equal key, in order of first appearance."""
    groups = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.values())


def checked_test_cfg(cfg: dict) -> dict:
    """Complete ``test_cfg``, and validate its keys and values."""
    cfg = TEST_CFG | cfg
    window, stride = cfg['window'], cfg['stride']
    counts = all(type(cfg[key]) is int and cfg[key] >= 1 for key in ('window', 'max_pairs'))
    strides = stride is None or (type(stride) is int and counts and 1 <= stride <= window)
    if set(cfg) != set(TEST_CFG) or cfg['mode'] not in ('slide', 'whole') or not counts or not strides:
        raise ValueError(
            f"test_cfg has the keys {tuple(TEST_CFG)}, mode 'slide' or 'whole', stride None or from 1 to window, "
            f'window and max_pairs whole numbers of at least 1, got {cfg}'
        )
    thr = cfg['score_thr']
    if isinstance(thr, bool) or not isinstance(thr, (int, float)) or thr != thr:
        raise ValueError(f'test_cfg.score_thr must be a number, got {thr!r}')
    return cfg
