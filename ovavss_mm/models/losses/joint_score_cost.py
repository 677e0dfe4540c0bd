# SPDX-License-Identifier: Apache-2.0
"""Matching cost of OV2Seg."""

from mmengine.structures import InstanceData
from mmseg.registry import TASK_UTILS
from torch import Tensor


@TASK_UTILS.register_module()
class JointScoreCost:
    """Minus the geometric mean of the probabilities of an object and of a target's name.

    Args:
        weight (float): of the cost. Defaults to 2.0.
    """

    needs_names = True

    def __init__(self, weight: float = 2.0) -> None:
        self.weight = weight

    def __call__(self, pred: InstanceData, gt: InstanceData, img_meta: dict | None = None) -> Tensor:
        """Costs (Q, K) of ``scores`` (Q, 2), ``name_logits`` (Q, N) and the targets' ``names`` (K,)."""
        joint = pred.scores.softmax(-1)[:, :1] * pred.name_logits.sigmoid()[:, gt.names]
        return -self.weight * joint.sqrt()
