# SPDX-License-Identifier: Apache-2.0
"""Queries of single frames: Mask2Former for images (OV2Seg, CLIP-VIS; paper Table 2)."""

from typing import Any

from mmdet.models.layers import MLP, SinePositionalEncoding
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from ..losses.frame_criterion import FrameCriterion
from ..losses.video_criterion import VideoTargets
from .audio_mask_dec_head import AudioMaskDecHead, QueryPredictions


class PlanarPositions(SinePositionalEncoding):
    """2-D sine positions of clips of one frame."""

    def forward(self, mask: Tensor) -> Tensor:
        """Positions (B, 1, C, h, w) of padding masks (B, 1, h, w)."""
        return super().forward(mask[:, 0])[:, None]


@MODELS.register_module()
class FrameQueryHead(AudioMaskDecHead):
    """The head on every frame by itself, with 2-D positions; a tracker links its queries.

    It tells objects from no object; names come from its embeddings in a text space (``text_channels``, OV2Seg) or from
    a classifier that looks at masks.

    Args:
        object_hidden (int): hidden layers of the MLP that tells objects: 1 in OV2Seg, 2 in CLIP-VIS, 0 for a linear
            layer. Defaults to 1.
        with_iou (bool): whether the IoU of a query's mask is predicted, by an MLP (CLIP-VIS). Defaults to False.
        **kwargs: see :class:`AudioMaskDecHead`; ``criterion`` is the config of :class:`FrameCriterion`.

    Raises:
        ValueError: ``object_hidden`` under 0, audio that the decoder would need, or see :class:`AudioMaskDecHead`.
    """

    per_frame = True
    criterion_type = FrameCriterion

    def __init__(self, object_hidden: int = 1, with_iou: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if object_hidden < 0 or self.needs_audio or self.num_classes != 1:
            raise ValueError(
                'object_hidden must not be negative, num_classes 1, and the prompt one without audio, got '
                f'{object_hidden}, {self.num_classes} and {type(self.transformer_decoder.audio_prompt).__name__}'
            )
        channels = self.transformer_decoder.embed_dims
        positions = kwargs.get('positional_encoding') or dict(num_feats=channels // 2, normalize=True)
        self.decoder_positional_encoding = PlanarPositions(**positions)
        self.sound_head = MLP(channels, channels, 2, object_hidden + 1)
        self.iou_head = MLP(channels, channels, 1, 3) if with_iou else None

    def forward(self, x: tuple[list[Tensor], Tensor], data_samples: object = None) -> QueryPredictions:
        """Predictions as of B * T clips of one frame, see the base class."""
        feats, audio = x
        return super().forward((feats, audio.flatten(0, 1).unsqueeze(1)))  # (B, T, Da) -> (B * T, 1, Da)

    def ious(self, query_embed: Tensor) -> Tensor | None:
        """Predicted IoUs (...) in [0, 1] of normalised queries (..., C), if they are predicted."""
        return None if self.iou_head is None else self.iou_head(query_embed).float().squeeze(-1).sigmoid()

    def _clip_losses(self, predictions: QueryPredictions, i: int, sample: SegDataSample) -> dict[str, Tensor]:
        """Losses of the annotated frames of clip i, each (layers + 1,)."""
        label_map = sample.gt_sem_seg.data
        frames = VideoTargets.from_label_map(label_map).frames
        targets = [VideoTargets.from_label_map(label_map[t : t + 1]) for t in frames]
        targets = [target.name(sample.metainfo.get('text_columns')) for target in targets]
        rows = i * len(label_map) + frames
        query = predictions.query_embed[:, rows]
        return self.criterion(
            predictions.sound_logits[:, rows],
            predictions.mask_embed[:, rows],
            predictions.pixel_embed[rows, 0],
            targets,
            self._name_logits(query, sample),
            self.ious(query),
        )

    def predict(
        self, x: tuple[list[Tensor], Tensor], batch_img_metas: object = None, test_cfg: object = None
    ) -> list[list[InstanceData]]:
        """Queries of the last layer of every frame.

        Args:
            x (tuple[list[Tensor], Tensor]): maps f4, f8, f16, f32, each (B * T, c, h, w), and audio (B, T, Da), whose
                size tells B and T.
            batch_img_metas (object): not used; mmseg's signature. Defaults to None.
            test_cfg (object): not used; mmseg's signature. Defaults to None.

        Returns:
            list[list[InstanceData]]: for each clip T frames of ``scores`` (Q,), that of an object in [0, 1], ``masks``
            (Q, 1, h4, w4) logits, ``object_logits`` (Q, 2), ``query_embeds`` (Q, C), and where the head has them
            ``text_embeds`` (Q, D) of length 1 and ``ious`` (Q,) in [0, 1].
        """
        batch, num_frames = x[1].shape[:2]
        predictions = self(x)
        query, logits = predictions.query_embed[-1].float(), predictions.sound_logits[-1].float()
        fields = dict(scores=logits.softmax(-1)[..., 0], masks=predictions.masks().float(), object_logits=logits)
        fields |= dict(query_embeds=query)
        if self.text_embed is not None:
            fields['text_embeds'] = self.text_embeds(predictions.query_embed[-1])
        if self.iou_head is not None:
            fields['ious'] = self.ious(predictions.query_embed[-1])
        frames = [InstanceData(**{k: v[i] for k, v in fields.items()}) for i in range(batch * num_frames)]
        return [frames[i * num_frames : (i + 1) * num_frames] for i in range(batch)]
