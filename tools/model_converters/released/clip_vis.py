# SPDX-License-Identifier: Apache-2.0
"""Names of weights in the published checkpoints of CLIP-VIS that OV-AVSS does not have."""

from .keys import DROPPED, RULES

CLIP = 'backbone.clip_model.'
CLIP_VIS = f"""
{CLIP}visual.attnpool.*       classifier.clip_model.visual.attnpool.*
{CLIP}visual.*                backbone.visual.*
{CLIP}*                       classifier.clip_model.*
QUERY.object_embed.layers.#.*   decode_head.sound_head.layers.#.*
QUERY.iou_head.layers.#.*       decode_head.iou_head.layers.#.*
{RULES}
"""
CLIP_VIS_DROPPED = [*DROPPED, (r'criterion\..*', 'constants of the losses')]
MARK = 'sem_seg_head.predictor.iou_head.layers.0.weight'  # a key that only these checkpoints have
