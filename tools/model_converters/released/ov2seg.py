# SPDX-License-Identifier: Apache-2.0
"""Names of weights in the published checkpoints of OV2Seg that OV-AVSS does not have."""

from .keys import DROPPED, RULES

OV2SEG = f"""
backbone.base.*                 backbone.*
QUERY.class_embed.linear.0.*    decode_head.text_embed.layers.0.*
QUERY.class_embed.linear.2.*    decode_head.text_embed.layers.1.*
QUERY.object_embed.layers.#.*   decode_head.sound_head.layers.#.*
{RULES}
"""
OV2SEG_DROPPED = [
    *DROPPED,
    (r'.*class_embed\.zs_weight', 'embeddings of the names of training; the text tower gives those of any names'),
    (r'criterion\..*', 'constants of the losses'),
]
MARK = 'sem_seg_head.predictor.class_embed.linear.0.weight'  # a key that only these checkpoints have
