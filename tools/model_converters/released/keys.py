# SPDX-License-Identifier: Apache-2.0
"""Names of weights in the published checkpoints, and what they are called here."""

import re
from functools import cache
from typing import NamedTuple

from torch import Tensor

PREFIXES = {
    'PIXEL': 'sem_seg_head.pixel_decoder',
    'ENCODER': 'sem_seg_head.pixel_decoder.transformer.encoder.layers',
    'FUSION': 'sem_seg_head.pixel_decoder.transformer.encoder.vl_layer.b_attn',
    'QUERY': 'sem_seg_head.predictor',
    'OUR_PIXEL': 'decode_head.pixel_decoder',
    'OUR_ENCODER': 'decode_head.pixel_decoder.encoder.layers',
    'DECODER': 'decode_head.transformer_decoder',
}
# Published name and ours, the first match wins. # stands for a number, * for the rest; both are
# carried over in their order.
RULES = """
backbone.stem.conv1.weight                  backbone.conv1.weight
backbone.stem.conv1.norm.*                  backbone.bn1.*
backbone.res#.#.shortcut.weight             backbone.layer#.#.downsample.0.weight
backbone.res#.#.shortcut.norm.*             backbone.layer#.#.downsample.1.*
backbone.res#.#.conv#.weight                backbone.layer#.#.conv#.weight
backbone.res#.#.conv#.norm.*                backbone.layer#.#.bn#.*

backbone.patch_embed.proj.*                 backbone.patch_embed.projection.*
backbone.patch_embed.norm.*                 backbone.patch_embed.norm.*
backbone.layers.#.blocks.#.norm#.*          backbone.stages.#.blocks.#.norm#.*
backbone.layers.#.blocks.#.attn.*           backbone.stages.#.blocks.#.attn.w_msa.*
backbone.layers.#.blocks.#.mlp.fc1.*        backbone.stages.#.blocks.#.ffn.layers.0.0.*
backbone.layers.#.blocks.#.mlp.fc2.*        backbone.stages.#.blocks.#.ffn.layers.1.*
backbone.layers.#.downsample.*              backbone.stages.#.downsample.*
backbone.norm#.*                            backbone.norm#.*

FUSION.gamma_v                              neck.fusion.gamma_v
FUSION.gamma_l                              neck.fusion.gamma_a
FUSION.layer_norm_v.*                       neck.fusion.norm_v.*
FUSION.layer_norm_l.*                       neck.fusion.norm_a.*
FUSION.attn.v_proj.*                        neck.fusion.query_v.*
FUSION.attn.l_proj.*                        neck.fusion.key_a.*
FUSION.attn.values_v_proj.*                 neck.fusion.value_v.*
FUSION.attn.values_l_proj.*                 neck.fusion.value_a.*
FUSION.attn.out_v_proj.*                    neck.fusion.out_v.*
FUSION.attn.out_l_proj.*                    neck.fusion.out_a.*

PIXEL.input_proj.0.0.*                      neck.input_convs.2.conv.*
PIXEL.input_proj.1.0.*                      neck.input_convs.1.conv.*
PIXEL.input_proj.2.0.*                      neck.input_convs.0.conv.*
PIXEL.input_proj.0.1.*                      neck.input_convs.2.gn.*
PIXEL.input_proj.1.1.*                      neck.input_convs.1.gn.*
PIXEL.input_proj.2.1.*                      neck.input_convs.0.gn.*
PIXEL.transformer.level_embed               OUR_PIXEL.level_encoding.weight
ENCODER.#.self_attn.*                       OUR_ENCODER.#.self_attn.*
ENCODER.#.norm1.*                           OUR_ENCODER.#.norms.0.*
ENCODER.#.norm2.*                           OUR_ENCODER.#.norms.1.*
ENCODER.#.linear1.*                         OUR_ENCODER.#.ffn.layers.0.0.*
ENCODER.#.linear2.*                         OUR_ENCODER.#.ffn.layers.1.*
PIXEL.mask_features.*                       OUR_PIXEL.mask_feature.*
PIXEL.adapter_1.weight                      OUR_PIXEL.lateral_convs.0.conv.weight
PIXEL.adapter_1.norm.*                      OUR_PIXEL.lateral_convs.0.gn.*
PIXEL.layer_1.weight                        OUR_PIXEL.output_convs.0.conv.weight
PIXEL.layer_1.norm.*                        OUR_PIXEL.output_convs.0.gn.*

QUERY.transformer_cross_attention_layers.#.multihead_attn.*        DECODER.layers.#.cross_attn.attn.*
QUERY.transformer_cross_attention_layers.#.norm.*                  DECODER.layers.#.norms.0.*
QUERY.transformer_self_attention_layers.#.self_attn.*              DECODER.layers.#.self_attn.attn.*
QUERY.transformer_self_attention_layers.#.norm.*                   DECODER.layers.#.norms.1.*
QUERY.transformer_audio_cross_attention_layers.#.multihead_attn.*  DECODER.layers.#.audio_attn.attn.attn.*
QUERY.transformer_audio_cross_attention_layers.#.norm.*            DECODER.layers.#.audio_attn.norm.*
QUERY.transformer_ffn_layers.#.linear1.*    DECODER.layers.#.ffn.layers.0.0.*
QUERY.transformer_ffn_layers.#.linear2.*    DECODER.layers.#.ffn.layers.1.*
QUERY.transformer_ffn_layers.#.norm.*       DECODER.layers.#.norms.2.*
QUERY.v2a.multihead_attn.*                  DECODER.audio_prompt.query_audio_attn.attn.attn.*
QUERY.v2a.norm.*                            DECODER.audio_prompt.query_audio_attn.norm.*
QUERY.a2a.self_attn.*                       DECODER.audio_prompt.audio_self_attn.0.attn.attn.*
QUERY.a2a.norm.*                            DECODER.audio_prompt.audio_self_attn.0.norm.*
QUERY.decoder_norm.*                        DECODER.post_norm.*
QUERY.query_feat.weight                     decode_head.query_feat.weight
QUERY.static_query.weight                   decode_head.query_feat.weight
QUERY.query_embed.weight                    decode_head.query_embed.weight
QUERY.level_embed.weight                    decode_head.level_embed.weight
QUERY.audio_query_embed.weight              decode_head.audio_embed.weight
QUERY.class_embed.*                         decode_head.sound_head.*
QUERY.mask_embed.layers.0.*                 decode_head.mask_embed.0.*
QUERY.mask_embed.layers.1.*                 decode_head.mask_embed.2.*
QUERY.mask_embed.layers.2.*                 decode_head.mask_embed.4.*
QUERY.audio_proj.layers.0.*                 decode_head.audio_proj.0.*
QUERY.audio_proj.layers.1.*                 decode_head.audio_proj.2.*

clip_adapter.clip_model.*                   classifier.clip_model.*
audio_encoder.audio_backbone.*              audio_encoder.vggish.*
"""

# What a converted checkpoint does not need, and why.
DROPPED: list[tuple[str, str]] = [
    (r'criterion\.empty_weight', 'a constant of the loss'),
    (r'clip_adapter\.pixel_(mean|std)', 'constants of CLIP'),
    (r'backbone\..*relative_position_index', 'computed from the window size'),
    (r'pixel_(mean|std)', 'constants of the data preprocessor'),
]


class Conversion(NamedTuple):
    """A state dict in our names.

    Attributes:
        state (dict[str, Tensor]): our names to tensors.
        mapped (dict[str, str]): published name to ours.
        dropped (dict[str, str]): published name to the reason.
        unplaced (dict[str, str]): published names that have no place here, and why.
    """

    state: dict[str, Tensor]
    mapped: dict[str, str]
    dropped: dict[str, str]
    unplaced: dict[str, str]


def report(conversion: Conversion, verbose: bool) -> None:
    """Print what became of each key."""
    for key, name in conversion.mapped.items() if verbose else ():
        print(f'mapped   {key} -> {name}')
    for key, why in conversion.dropped.items():
        print(f'dropped  {key}: {why}')
    for key, why in conversion.unplaced.items():
        print(f'NO PLACE {key}: {why}')
    counts = (len(part) for part in (conversion.mapped, conversion.dropped, conversion.unplaced))
    print('{} keys mapped, {} dropped, {} without a place'.format(*counts))


@cache
def _patterns(table: str) -> list[tuple[re.Pattern, str]]:
    """A table of rules as patterns and templates."""
    rules = []
    for line in filter(str.strip, table.splitlines()):
        theirs, ours = (re.sub(r'^[A-Z_]+(?=\.)', lambda m: PREFIXES[m[0]], name) for name in line.split())
        pattern = re.escape(theirs).replace(r'\#', r'(\d+)').replace(r'\*', '(.+)')
        rules.append((re.compile(pattern), re.sub('[#*]', '{}', ours)))
    return rules


def rename(key: str, rules: str = RULES) -> str | None:
    """Our name of a published name by a table of rules, or None."""
    for pattern, template in _patterns(rules):
        match = pattern.fullmatch(key)
        if match:
            name = template.format(*match.groups())
            if key.startswith('backbone.res'):  # detectron2 counts residual stages from 2, torchvision from 1
                return re.sub(r'^backbone\.layer(\d)', lambda m: f'backbone.layer{int(m[1]) - 1}', name)
            return name
    return None


def convert(state: dict[str, Tensor], dropped: list[tuple[str, str]] = DROPPED, rules: str = RULES) -> Conversion:
    """Convert a published state dict to our names.

    Args:
        state (dict[str, Tensor]): the ``model`` of a published checkpoint.
        dropped (list[tuple[str, str]]): patterns of names that are not needed, each with the reason.
        rules (str): table of names, as :data:`RULES`. Defaults to RULES.

    Returns:
        Conversion: with an account of every key.
    """
    result = Conversion({}, {}, {}, {})
    for key, value in state.items():
        reason = next((why for pattern, why in dropped if re.fullmatch(pattern, key)), None)
        name = rename(key, rules)
        if reason is not None:
            result.dropped[key] = reason
        elif name is None:
            result.unplaced[key] = 'no rule knows this name'
        elif name in result.state:
            result.unplaced[key] = f'{name} is taken by another key'
        else:
            result.mapped[key] = name
            result.state[name] = _reorder(name, value)
    return result


def _reorder(name: str, value: Tensor) -> Tensor:
    """Swin merges 2 x 2 patches one after the other; mmseg unfolds them, channels first."""
    merges_patches = re.search(r'downsample\.(norm|reduction)\.', name)
    if not merges_patches or value.ndim == 0 or value.shape[-1] % 4:
        return value
    # columns before rows -> rows before columns
    patches = value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
    return patches.transpose(-1, -2).flatten(-2).contiguous()  # (..., 4, C) -> (..., C * 4)
