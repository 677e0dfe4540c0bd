# SPDX-License-Identifier: Apache-2.0
"""Names by a trained class head instead of CLIP (paper Table 2, closed-set rows)."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from mmseg.registry import MODELS
from torch import Tensor

from ..layers.resize import resize_masks


@MODELS.register_module()
class ClosedSetClassifier(BaseModule):
    """Takes the class scores of a head with ``num_classes`` of the training vocabulary.

    Classes without training clips are never predicted: novel IoU is 0 by construction.
    """

    open_vocabulary = False

    @torch.no_grad()
    def forward(
        self, frames: Tensor, queries: InstanceData, names: Sequence[str], pad_shape: tuple[int, int]
    ) -> InstanceData:
        """Name the queries of one clip.

        Args:
            frames (Tensor): (T, 3, h, w), for their size.
            queries (InstanceData): ``name_scores`` (Q, N) in [0, 1], ``scores`` (Q,) and ``masks`` (Q, T, h4, w4)
                logits.
            names (Sequence[str]): the N names of training, in their order.
            pad_shape (tuple[int, int]): size of the padded input in pixels.

        Returns:
            InstanceData: the S queries with a pixel above 0.5 in some frame, with ``class_scores`` (S, N).

        Raises:
            ValueError: the head tells no names apart, or another number of them.
        """
        known = queries.name_scores.shape[1] if 'name_scores' in queries else 1
        if known != len(names) or known == 1:
            raise ValueError(
                f'the head tells {known} names apart, asked for {len(names)}: a closed-set model has '
                'decode_head.num_classes names, those it was trained with'
            )
        # a query at a time: masks at full size are large
        size = tuple(frames.shape[-2:])
        seen = [bool((resize_masks(m[None], pad_shape, size) > 0).any()) for m in queries.masks]
        queries = queries[torch.tensor(seen, device=queries.masks.device)]
        queries.class_scores = queries.name_scores
        return queries
