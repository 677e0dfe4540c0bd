# SPDX-License-Identifier: Apache-2.0
"""Names by a head whose queries have embeddings in a text space (OV2Seg; paper Table 2)."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..layers.sounding import sounding
from .open_vocabulary import OpenVocabularyClassifier


@MODELS.register_module()
class TextSpaceClassifier(OpenVocabularyClassifier):
    """Compares embeddings that the head gives with those of names; CLIP sees no picture, its image tower is left out.

    The score of a query and a name is the geometric mean of the name's probability and that of an object, both of
    logits that are averaged over the clip, frames in which the query is not visible included; the scores of frames drop
    frames, see :func:`~ovavss_mm.models.segmentors.label_map.best_pairs`.

    Args:
        logit_scale (float): factor of cosine similarities. Defaults to 50.
        sound_thr (float, optional): see :class:`OpenVocabularyClassifier`. Defaults to None, all queries.
        **kwargs: see :class:`OpenVocabularyClassifier`.
    """

    needs_text = True

    def __init__(self, logit_scale: float = 50.0, sound_thr: float | None = None, **kwargs: Any) -> None:
        super().__init__(logit_scale=logit_scale, sound_thr=sound_thr, **kwargs)
        self.clip_model.visual = nn.Identity()

    def convert_state_dict(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Names as of the base class, without the image tower."""
        state = super().convert_state_dict(state)
        return {key: value for key, value in state.items() if not key.startswith('clip_model.visual.')}

    @torch.no_grad()
    def forward(
        self, frames: Tensor, queries: InstanceData, names: Sequence[str], pad_shape: tuple[int, int]
    ) -> InstanceData:
        """Name the queries of one clip.

        Args:
            frames (Tensor): not used.
            queries (InstanceData): ``scores`` (Q,), ``masks`` (Q, T, h4, w4) logits, ``text_embeds`` (Q, T, D) of
                length 1, and of a tracker ``object_logits`` (Q, T, 2); without them every frame has ``scores``.
            names (Sequence[str]): N names.
            pad_shape (tuple[int, int]): not used.

        Returns:
            InstanceData: the queries with ``class_scores`` (S, N) and ``frame_scores`` (S, T, N).

        Raises:
            ValueError: the head gives no text embeddings, or of another width.
        """
        rows = self.text_rows(names)
        given = queries.text_embeds.shape[-1] if 'text_embeds' in queries else None
        if given != rows.shape[1]:
            raise ValueError(
                f'the text tower gives {rows.shape[1]} channels, the head {given}: set decode_head.text_channels='
                f'{rows.shape[1]}, and train with it'
            )
        queries = sounding(queries, self.sound_thr)
        with torch.autocast(rows.device.type, enabled=False):
            logits = queries.text_embeds @ rows.T  # (S, T, N)
        per_frame = queries.scores[:, None]  # (S, T or 1)
        if 'object_logits' in queries:
            per_frame = queries.object_logits.softmax(-1)[..., 0]
        queries.class_scores = (logits.mean(1).sigmoid() * queries.scores[:, None]).sqrt()
        queries.frame_scores = (logits.sigmoid() * per_frame[..., None]).sqrt()
        return queries
