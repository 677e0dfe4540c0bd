# SPDX-License-Identifier: Apache-2.0
"""Names of weights in the published checkpoints, and what they are called here."""

import re
from typing import NamedTuple

from torch import Tensor

_PIXEL = r'^sem_seg_head\.pixel_decoder\.'
_ENCODER = _PIXEL + r'transformer\.encoder\.'
_FUSION = _ENCODER + r'vl_layer\.b_attn\.'
_QUERY = r'^sem_seg_head\.predictor\.'
_DECODER = 'decode_head.transformer_decoder.'

# first match wins; the pattern covers the whole key
RULES: list[tuple[str, str]] = [
    # ResNet
    (r'^backbone\.stem\.conv1\.weight$', 'backbone.conv1.weight'),
    (r'^backbone\.stem\.conv1\.norm\.(\w+)$', r'backbone.bn1.\1'),
    (r'^backbone\.res(\d)\.(\d+)\.shortcut\.weight$', r'backbone.layer\1.\2.downsample.0.weight'),
    (r'^backbone\.res(\d)\.(\d+)\.shortcut\.norm\.(\w+)$', r'backbone.layer\1.\2.downsample.1.\3'),
    (r'^backbone\.res(\d)\.(\d+)\.conv(\d)\.weight$', r'backbone.layer\1.\2.conv\3.weight'),
    (r'^backbone\.res(\d)\.(\d+)\.conv(\d)\.norm\.(\w+)$', r'backbone.layer\1.\2.bn\3.\4'),
    # Swin
    (r'^backbone\.patch_embed\.proj\.(\w+)$', r'backbone.patch_embed.projection.\1'),
    (r'^backbone\.patch_embed\.norm\.(\w+)$', r'backbone.patch_embed.norm.\1'),
    (
        r'^backbone\.layers\.(\d)\.blocks\.(\d+)\.norm(\d)\.(\w+)$',
        r'backbone.stages.\1.blocks.\2.norm\3.\4',
    ),
    (
        r'^backbone\.layers\.(\d)\.blocks\.(\d+)\.attn\.(.+)$',
        r'backbone.stages.\1.blocks.\2.attn.w_msa.\3',
    ),
    (
        r'^backbone\.layers\.(\d)\.blocks\.(\d+)\.mlp\.fc1\.(\w+)$',
        r'backbone.stages.\1.blocks.\2.ffn.layers.0.0.\3',
    ),
    (
        r'^backbone\.layers\.(\d)\.blocks\.(\d+)\.mlp\.fc2\.(\w+)$',
        r'backbone.stages.\1.blocks.\2.ffn.layers.1.\3',
    ),
    (
        r'^backbone\.layers\.(\d)\.downsample\.(norm|reduction)\.(\w+)$',
        r'backbone.stages.\1.downsample.\2.\3',
    ),
    (r'^backbone\.norm(\d)\.(\w+)$', r'backbone.norm\1.\2'),
    # fusion
    (_FUSION + r'gamma_v$', 'neck.fusion.gamma_v'),
    (_FUSION + r'gamma_l$', 'neck.fusion.gamma_a'),
    (_FUSION + r'layer_norm_v\.(\w+)$', r'neck.fusion.norm_v.\1'),
    (_FUSION + r'layer_norm_l\.(\w+)$', r'neck.fusion.norm_a.\1'),
    (_FUSION + r'attn\.v_proj\.(\w+)$', r'neck.fusion.query_v.\1'),
    (_FUSION + r'attn\.l_proj\.(\w+)$', r'neck.fusion.key_a.\1'),
    (_FUSION + r'attn\.values_v_proj\.(\w+)$', r'neck.fusion.value_v.\1'),
    (_FUSION + r'attn\.values_l_proj\.(\w+)$', r'neck.fusion.value_a.\1'),
    (_FUSION + r'attn\.out_v_proj\.(\w+)$', r'neck.fusion.out_v.\1'),
    (_FUSION + r'attn\.out_l_proj\.(\w+)$', r'neck.fusion.out_a.\1'),
    # pixel decoder; its projections go from low to high resolution, the neck's from high to low
    *[
        (_PIXEL + rf'input_proj\.{i}\.0\.(\w+)$', rf'neck.input_convs.{2 - i}.conv.\1')
        for i in range(3)
    ],
    *[
        (_PIXEL + rf'input_proj\.{i}\.1\.(\w+)$', rf'neck.input_convs.{2 - i}.gn.\1')
        for i in range(3)
    ],
    (_PIXEL + r'transformer\.level_embed$', 'decode_head.pixel_decoder.level_encoding.weight'),
    (
        _ENCODER + r'layers\.(\d)\.self_attn\.(.+)$',
        r'decode_head.pixel_decoder.encoder.layers.\1.self_attn.\2',
    ),
    (
        _ENCODER + r'layers\.(\d)\.norm1\.(\w+)$',
        r'decode_head.pixel_decoder.encoder.layers.\1.norms.0.\2',
    ),
    (
        _ENCODER + r'layers\.(\d)\.norm2\.(\w+)$',
        r'decode_head.pixel_decoder.encoder.layers.\1.norms.1.\2',
    ),
    (
        _ENCODER + r'layers\.(\d)\.linear1\.(\w+)$',
        r'decode_head.pixel_decoder.encoder.layers.\1.ffn.layers.0.0.\2',
    ),
    (
        _ENCODER + r'layers\.(\d)\.linear2\.(\w+)$',
        r'decode_head.pixel_decoder.encoder.layers.\1.ffn.layers.1.\2',
    ),
    (_PIXEL + r'mask_features\.(\w+)$', r'decode_head.pixel_decoder.mask_feature.\1'),
    (_PIXEL + r'adapter_1\.weight$', 'decode_head.pixel_decoder.lateral_convs.0.conv.weight'),
    (_PIXEL + r'adapter_1\.norm\.(\w+)$', r'decode_head.pixel_decoder.lateral_convs.0.gn.\1'),
    (_PIXEL + r'layer_1\.weight$', 'decode_head.pixel_decoder.output_convs.0.conv.weight'),
    (_PIXEL + r'layer_1\.norm\.(\w+)$', r'decode_head.pixel_decoder.output_convs.0.gn.\1'),
    # decoder
    (
        _QUERY + r'transformer_cross_attention_layers\.(\d)\.multihead_attn\.(.+)$',
        _DECODER + r'layers.\1.cross_attn.attn.\2',
    ),
    (
        _QUERY + r'transformer_cross_attention_layers\.(\d)\.norm\.(\w+)$',
        _DECODER + r'layers.\1.norms.0.\2',
    ),
    (
        _QUERY + r'transformer_self_attention_layers\.(\d)\.self_attn\.(.+)$',
        _DECODER + r'layers.\1.self_attn.attn.\2',
    ),
    (
        _QUERY + r'transformer_self_attention_layers\.(\d)\.norm\.(\w+)$',
        _DECODER + r'layers.\1.norms.1.\2',
    ),
    (
        _QUERY + r'transformer_audio_cross_attention_layers\.(\d)\.multihead_attn\.(.+)$',
        _DECODER + r'layers.\1.audio_attn.attn.attn.\2',
    ),
    (
        _QUERY + r'transformer_audio_cross_attention_layers\.(\d)\.norm\.(\w+)$',
        _DECODER + r'layers.\1.audio_attn.norm.\2',
    ),
    (
        _QUERY + r'transformer_ffn_layers\.(\d)\.linear1\.(\w+)$',
        _DECODER + r'layers.\1.ffn.layers.0.0.\2',
    ),
    (
        _QUERY + r'transformer_ffn_layers\.(\d)\.linear2\.(\w+)$',
        _DECODER + r'layers.\1.ffn.layers.1.\2',
    ),
    (_QUERY + r'transformer_ffn_layers\.(\d)\.norm\.(\w+)$', _DECODER + r'layers.\1.norms.2.\2'),
    (
        _QUERY + r'v2a\.multihead_attn\.(.+)$',
        _DECODER + r'audio_prompt.query_audio_attn.attn.attn.\1',
    ),
    (_QUERY + r'v2a\.norm\.(\w+)$', _DECODER + r'audio_prompt.query_audio_attn.norm.\1'),
    (_QUERY + r'a2a\.self_attn\.(.+)$', _DECODER + r'audio_prompt.audio_self_attn.0.attn.attn.\1'),
    (_QUERY + r'a2a\.norm\.(\w+)$', _DECODER + r'audio_prompt.audio_self_attn.0.norm.\1'),
    (_QUERY + r'decoder_norm\.(\w+)$', _DECODER + r'post_norm.\1'),
    (_QUERY + r'(?:query_feat|static_query)\.weight$', 'decode_head.query_feat.weight'),
    (_QUERY + r'query_embed\.weight$', 'decode_head.query_embed.weight'),
    (_QUERY + r'level_embed\.weight$', 'decode_head.level_embed.weight'),
    (_QUERY + r'audio_query_embed\.weight$', 'decode_head.audio_embed.weight'),
    (_QUERY + r'class_embed\.(\w+)$', r'decode_head.sound_head.\1'),
    *[
        (_QUERY + rf'mask_embed\.layers\.{i}\.(\w+)$', rf'decode_head.mask_embed.{2 * i}.\1')
        for i in range(3)
    ],
    *[
        (_QUERY + rf'audio_proj\.layers\.{i}\.(\w+)$', rf'decode_head.audio_proj.{2 * i}.\1')
        for i in range(2)
    ],
    # frozen encoders
    (r'^clip_adapter\.clip_model\.(.+)$', r'classifier.clip_model.\1'),
    (r'^audio_encoder\.audio_backbone\.(.+)$', r'audio_encoder.vggish.\1'),
]

# what a converted checkpoint does not need, and why
DROPPED: list[tuple[str, str]] = [
    (r'^criterion\.empty_weight$', 'a constant of the loss'),
    (r'^clip_adapter\.pixel_(mean|std)$', 'constants of CLIP'),
    (r'^backbone\..*relative_position_index$', 'computed from the window size'),
    (r'^pixel_(mean|std)$', 'constants of the data preprocessor'),
]


class Conversion(NamedTuple):
    """A state dict in our names.

    Attributes:
        state: our names to tensors.
        mapped: published name to ours.
        dropped: published name to the reason.
        unplaced: published names that have no place here, and why.
    """

    state: dict[str, Tensor]
    mapped: dict[str, str]
    dropped: dict[str, str]
    unplaced: dict[str, str]


def rename(key: str) -> str | None:
    """Our name of a published name, or None."""
    for pattern, name in RULES:
        match = re.fullmatch(pattern, key)
        if match:
            key = match.expand(name)
            # detectron2 counts residual stages from 2, torchvision from 1
            return re.sub(r'^backbone\.layer(\d)', lambda m: f'backbone.layer{int(m[1]) - 1}', key)
    return None


def convert(state: dict[str, Tensor], dropped: list[tuple[str, str]] = DROPPED) -> Conversion:
    """Published state dict to ours.

    Args:
        state: the ``model`` of a published checkpoint.
        dropped: patterns of names that are not needed, each with the reason.

    Returns:
        The conversion with its account of every key.
    """
    result = Conversion({}, {}, {}, {})
    for key, value in state.items():
        reason = next((why for pattern, why in dropped if re.fullmatch(pattern, key)), None)
        name = rename(key)
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
