# SPDX-License-Identifier: Apache-2.0
"""Universal sound source localization: learned queries become sounding objects (paper section 3.3)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.models.layers import MLP, SinePositionalEncoding3D
from mmengine.model import BaseModule, ModuleList
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.audio_prompts import interpolate_time
from ..losses.video_criterion import VideoCriterion, VideoTargets


class QueryPredictions(NamedTuple):
    """Predictions of the queries: prediction 0 and one after each decoder layer.

    Attributes:
        sound_logits (Tensor): (layers + 1, B, Q, 2), 'sounding' and 'no object'; of a closed-set head (..., N + 1), the
            names and 'no object'.
        mask_embed (Tensor): (layers + 1, B, Q, C).
        pixel_embed (Tensor): (B, T, C, h4, w4). Mask logits are ``mask_embed`` times these.
        query_embed (Tensor): (layers + 1, B, Q, C), the normalised queries that all of these are made from.
        frame_logits (Sequence[Tensor]): of each frame score, (layers + 1, B, Q or 1, T). Defaults to none.
    """

    sound_logits: Tensor
    mask_embed: Tensor
    pixel_embed: Tensor
    query_embed: Tensor
    frame_logits: Sequence[Tensor] = ()

    def masks(self, layer: int = -1) -> Tensor:
        """Mask logits (B, Q, T, h4, w4) after a layer."""
        return torch.einsum('bqc,btchw->bqthw', self.mask_embed[layer], self.pixel_embed)


@MODELS.register_module()
class AudioMaskDecHead(BaseModule):
    """Mask2Former head over the tokens of all T frames, whose queries also attend to audio.

    First the queries attend to the audio, which gives prediction 0; the audio tokens attend to each other once; then
    every layer attends to one level of masked pixels, to the other queries and to the audio. Variants are
    ``transformer_decoder.audio_prompt``.

    mmdet's ``Mask2FormerTrackHead`` is not the base: it matches and samples layer by layer over masks of all queries,
    averages targets over processes, and has no place for audio between its layers.

    Args:
        in_channels (list[int]): channels of f4 and of the neck's f8, f16, f32.
        pixel_decoder (dict): config of the pixel decoder.
        transformer_decoder (dict): config of the decoder, such as :class:`AudioMaskDecoder`.
        feat_channels (int): C of the decoder. Defaults to 256.
        out_channels (int): C of the per-pixel and mask embeddings. Defaults to 256.
        num_queries (int): Q. Defaults to 100.
        num_frames (int): learned audio positions; clips of another T interpolate them. Defaults to 5.
        audio_channels (int): Da. Defaults to 128.
        positional_encoding (dict, optional): arguments of the 3-D sine positions. Defaults to None.
        criterion (dict, optional): config of :class:`VideoCriterion`; None for a model that only predicts.
        num_classes (int): 1, class-agnostic, a query sounds or it does not; or N, a closed-set head that tells the N
            names of the training vocabulary apart (paper Table 2), for :class:`ClosedSetClassifier`. Defaults to 1.
        text_channels (int, optional): D of queries in the space of text embeddings, for :class:`TextSpaceClassifier`,
            whose text tower is then there in training too. None: there are none. Defaults to None.
        frame_scores (Sequence[dict]): configs of :class:`FrameSoundScore` and :class:`PresenceScore`, scores of single
            frames that gate the sound scores, for a prompt with audio tokens and one class. Defaults to none.

    Raises:
        ValueError: ``num_frames``, ``num_queries`` or ``num_classes`` under 1, a decoder of other channels, or scores
            of frames that it cannot have.
    """

    align_corners = False
    criterion_type: type[nn.Module] = VideoCriterion

    def __init__(
        self,
        in_channels: list[int],
        pixel_decoder: dict,
        transformer_decoder: dict,
        feat_channels: int = 256,
        out_channels: int = 256,
        num_queries: int = 100,
        num_frames: int = 5,
        audio_channels: int = 128,
        positional_encoding: dict | None = None,
        criterion: dict | None = None,
        num_classes: int = 1,
        text_channels: int | None = None,
        frame_scores: Sequence[dict] = (),
    ) -> None:
        if min(num_frames, num_queries, num_classes) < 1:
            raise ValueError(
                'num_frames, num_queries and num_classes must be at least 1, '
                f'got {num_frames}, {num_queries}, {num_classes}'
            )
        super().__init__()
        self.out_channels, self.num_classes = out_channels, num_classes
        self.pixel_decoder = MODELS.build(
            dict(pixel_decoder, in_channels=in_channels, feat_channels=feat_channels, out_channels=out_channels)
        )
        self.transformer_decoder = MODELS.build(transformer_decoder)
        prompt = self.transformer_decoder.audio_prompt
        self.needs_audio = prompt.needs_audio
        if self.transformer_decoder.embed_dims != feat_channels:
            raise ValueError(
                f'transformer_decoder works on {self.transformer_decoder.embed_dims} channels, '
                f'feat_channels is {feat_channels}: they must be equal'
            )
        self.decoder_positional_encoding = SinePositionalEncoding3D(
            **(positional_encoding or dict(num_feats=feat_channels // 2, normalize=True))
        )
        self.query_feat = nn.Embedding(num_queries, feat_channels)
        self.query_embed = nn.Embedding(num_queries, feat_channels)
        self.level_embed = nn.Embedding(self.pixel_decoder.num_encoder_levels, feat_channels)
        self.sound_head = nn.Linear(feat_channels, num_classes + 1)
        self.mask_embed = nn.Sequential(
            nn.Linear(feat_channels, feat_channels),
            nn.ReLU(inplace=True),
            nn.Linear(feat_channels, feat_channels),
            nn.ReLU(inplace=True),
            nn.Linear(feat_channels, out_channels),
        )
        self.text_channels = text_channels
        self.text_embed = None if text_channels is None else MLP(feat_channels, feat_channels, text_channels, 2)
        self.num_frames = num_frames
        if prompt.with_tokens:
            self.audio_proj = nn.Sequential(
                nn.Linear(audio_channels, feat_channels), nn.ReLU(inplace=True), nn.Linear(feat_channels, feat_channels)
            )
            self.audio_embed = nn.Embedding(num_frames, feat_channels)
        if frame_scores and not (prompt.with_tokens and num_classes == 1):
            raise ValueError(
                'frame_scores need a prompt with audio tokens and num_classes=1, '
                f'got {type(prompt).__name__} and {num_classes}'
            )
        self.frame_scores = ModuleList([MODELS.build(dict(cfg, feat_channels=feat_channels)) for cfg in frame_scores])
        prompt.init_audio(num_frames, audio_channels)
        self.criterion = None if criterion is None else self.criterion_type(**criterion)
        if self.criterion is not None and self.criterion.needs_names and text_channels is None:
            raise ValueError('a cost of criterion.match_costs compares names: set decode_head.text_channels')

    def init_weights(self) -> None:
        """Initialise both decoders, each by itself."""
        self.pixel_decoder.init_weights()
        self.transformer_decoder.init_weights()

    def forward(self, x: tuple[list[Tensor], Tensor], data_samples: object = None) -> QueryPredictions:
        """Decode B clips of T frames.

        Args:
            x (tuple[list[Tensor], Tensor]): maps f4, f8, f16, f32, each (B * T, c, h, w), and audio (B, T, Da) or (B,
                T, S, Da), both fused.
            data_samples (object): not used; mmseg's signature. Defaults to None.

        Returns:
            QueryPredictions: the predictions of all layers.
        """
        feats, audio = x
        batch, frames = audio.shape[:2]
        pixel_embed, levels = self.pixel_decoder(feats)
        memories = [self._memory(level, batch, i) for i, level in enumerate(levels)]
        # attention masks need each level's size only: resizing pixels equals resizing masks, as both are linear
        level_embeds = [
            F.interpolate(pixel_embed, level.shape[-2:], mode='bilinear', align_corners=False).unflatten(0, (batch, -1))
            for level in levels
        ]
        decoder, prompt = self.transformer_decoder, self.transformer_decoder.audio_prompt
        tokens = audio if audio.ndim == 4 else audio.unsqueeze(2)  # (B, T, S, Da)
        query_pos = self.query_embed.weight.expand(batch, -1, -1)
        query_pos = prompt.query_positions(query_pos, tokens.flatten(1, 2))
        query = self.query_feat.weight.expand(batch, -1, -1)
        audio, audio_pos = self._audio_tokens(tokens) if prompt.with_tokens else (None, None)
        heard = audio
        query = prompt.init_queries(query, audio, query_pos, audio_pos)
        outputs = [self._predict_queries(query)]
        for i, layer in enumerate(decoder.layers):
            level = i % len(levels)
            audio = prompt.update_audio(i, audio, audio_pos)
            mask = self._attn_mask(outputs[-1][1], level_embeds[level])
            query = layer(query, memories[level][0], audio, query_pos, memories[level][1], audio_pos, mask)
            outputs.append(self._predict_queries(query))
        sound_logits, mask_embed, query_embed = (torch.stack(part) for part in zip(*outputs, strict=True))
        # (B, T * S, C) -> (B, T, S, C)
        frame_logits = [score(query_embed, heard.unflatten(1, (frames, -1))) for score in self.frame_scores]
        pixel_embed = pixel_embed.unflatten(0, (batch, frames))
        return QueryPredictions(sound_logits, mask_embed, pixel_embed, query_embed, frame_logits)

    def _memory(self, level: Tensor, batch: int, index: int) -> tuple[Tensor, Tensor]:
        """Tokens of all frames at a level and their positions, each (B, T * h * w, C)."""
        tokens = level + self.level_embed.weight[index][:, None, None]
        tokens = tokens.unflatten(0, (batch, -1))  # (B, T, C, h, w)
        # one clip's positions serve all: nothing in a group of clips is padded
        position = self.decoder_positional_encoding(tokens.new_zeros((1, *tokens[0, :, 0].shape), dtype=torch.bool))
        position = position.to(tokens.dtype).expand(batch, -1, -1, -1, -1)
        tokens, position = (t.transpose(2, 3).transpose(3, 4).flatten(1, 3) for t in (tokens, position))
        return tokens, position

    def _audio_tokens(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and positions, each (B, T * S, C), of audio (B, T, S, Da); a frame's tokens share its position."""
        batch, frames, per_frame = audio.shape[:3]
        position = interpolate_time(self.audio_embed.weight[None], frames)  # (1, T, C)
        position = position.repeat_interleave(per_frame, 1).expand(batch, -1, -1)
        return self.audio_proj(audio.flatten(1, 2)), position

    def _predict_queries(self, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sound logits (B, Q, num_classes + 1), mask embeddings (B, Q, C) and norm (B, Q, C) of queries (B, Q, C)."""
        query = self.transformer_decoder.post_norm(query)
        return self.sound_head(query), self.mask_embed(query), query

    def text_embeds(self, query_embed: Tensor) -> Tensor:
        """Normalised queries (..., C) in the space of text embeddings, (..., D) float32 of length 1."""
        return F.normalize(self.text_embed(query_embed).float(), dim=-1)

    @torch.no_grad()
    def _attn_mask(self, mask_embed: Tensor, pixel_embed: Tensor) -> Tensor:
        """Where not to attend: (B * heads, Q, T * h * w) bool, of (B, Q, C) and (B, T, C, h, w)."""
        logits = torch.einsum('bqc,btchw->bqthw', mask_embed, pixel_embed).flatten(2)
        masked = logits.sigmoid() < 0.5
        masked &= ~masked.all(-1, keepdim=True)  # a fully masked query attends to everything
        return masked.unsqueeze(1).expand(-1, self.transformer_decoder.num_heads, -1, -1).flatten(0, 1)

    def loss(
        self, x: tuple[list[Tensor], Tensor], data_samples: list[SegDataSample], train_cfg: object = None
    ) -> dict[str, Tensor]:
        """Losses of B clips, each the mean over clips.

        Args:
            x (tuple[list[Tensor], Tensor]): as in :meth:`forward`.
            data_samples (list[SegDataSample]): B samples with ``gt_sem_seg`` (T, H, W) at the padded input size, and
                metainfo ``text_rows`` (N, D) and ``text_columns`` if there are ``text_channels``, see
                :meth:`AVEncoderDecoder.loss`.
            train_cfg (object): not used; mmseg's signature. Defaults to None.

        Returns:
            dict[str, Tensor]: losses of the criterion, such as ``loss_sound``, of the last layer, ``d0.loss_sound`` ...
            of earlier ones.
        """
        if self.criterion is None:
            raise ValueError('this head has no criterion: set decode_head.criterion to train')
        predictions = self(x)
        per_clip = [self._clip_losses(predictions, i, sample) for i, sample in enumerate(data_samples)]
        losses = {}
        for name in per_clip[0]:
            *earlier, last = torch.stack([loss[name] for loss in per_clip]).mean(0)
            losses[name] = last
            losses.update({f'd{i}.{name}': value for i, value in enumerate(earlier)})
        return losses

    def _clip_losses(self, predictions: QueryPredictions, i: int, sample: SegDataSample) -> dict[str, Tensor]:
        """Losses of clip i, each (layers + 1,)."""
        names = self._name_logits(predictions.query_embed[:, i], sample)
        targets = VideoTargets.from_label_map(sample.gt_sem_seg.data).name(sample.metainfo.get('text_columns'))
        embeds = predictions.mask_embed[:, i], predictions.pixel_embed[i]
        frame_logits = [logits[:, i] for logits in predictions.frame_logits]
        frame_scores = list(zip(self.frame_scores, frame_logits, strict=True))
        return self.criterion(predictions.sound_logits[:, i], *embeds, targets, names, frame_scores)

    def _name_logits(self, query_embed: Tensor, sample: SegDataSample) -> Tensor | None:
        """Logits (..., N) of the names that a sample's training has, if there are ``text_channels``."""
        if self.text_embed is None:
            return None
        embeds = self.text_embeds(query_embed)
        with torch.autocast(embeds.device.type, enabled=False):  # factors of 50 and more
            return embeds @ sample.text_rows.T

    def predict(
        self, x: tuple[list[Tensor], Tensor], batch_img_metas: object = None, test_cfg: object = None
    ) -> list[InstanceData]:
        """Queries of the last layer.

        Args:
            x (tuple[list[Tensor], Tensor]): as in :meth:`forward`.
            batch_img_metas (object): not used; mmseg's signature. Defaults to None.
            test_cfg (object): not used; mmseg's signature. Defaults to None.

        Returns:
            list[InstanceData]: per clip ``scores`` (Q,), the sound scores in [0, 1] (paper equation 3), ``masks`` (Q,
            T, h4, w4) logits (equation 4) and ``query_embeds`` (Q, C); of a closed-set head also ``name_scores`` (Q, N)
            in [0, 1], whose sum is the sound score; with ``text_channels`` ``text_embeds`` (Q, T, D) of length 1; with
            ``frame_scores`` ``frame_sounds`` (Q, T), the sound scores of single frames, whose greatest is then the
            score.
        """
        predictions = self(x)
        scores = predictions.sound_logits[-1].float().softmax(-1)[..., :-1]
        clips = []
        parts = zip(scores, predictions.masks().float(), predictions.query_embed[-1].float(), strict=True)
        for score, mask, embed in parts:
            clips.append(InstanceData(scores=score.sum(-1), masks=mask, query_embeds=embed))
            if self.num_classes > 1:
                clips[-1].name_scores = score
        for logits in predictions.frame_logits:
            for clip, gates in zip(clips, logits[-1].float().sigmoid(), strict=True):
                clip.frame_sounds = clip.get('frame_sounds', clip.scores[:, None]) * gates  # (Q, T)
                clip.scores = clip.frame_sounds.amax(1)
        if self.text_embed is not None:
            for clip, text in zip(clips, self.text_embeds(predictions.query_embed[-1]), strict=True):
                clip.text_embeds = text[:, None].expand(-1, clip.masks.shape[1], -1)  # (Q, D) -> (Q, T, D)
        return clips
