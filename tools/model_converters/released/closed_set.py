# SPDX-License-Identifier: Apache-2.0
"""Names of weights in the published checkpoints of TPAVI and CATR, and what they are called here."""

import re

from torch import Tensor, nn

from ovavss_mm.utils.safe_loading import CheckpointError

from .keys import Conversion, convert

PVT = 'encoder_backbone.'
UNUSED = r'decode_head\.(extra_branch|unused|refine\.3\.skip_unit)\.'  # of our names
VGGISH = (r'audio_encoder\.',)  # of our names, which no published file has: VGGish has a file of its own
_LEVELS = (1, 2, 3, 4)  # counted from 0 here
_CONTEXT = '\n'.join(f'conv{i}.conv2d_list.#.*  neck.convs.{i - 1}.#.conv.*' for i in _LEVELS)


def _refine(prefix: str) -> str:
    """Rules of the decoder steps ``path1`` to ``path4``."""
    return '\n'.join(
        f'path{i}.resConfUnit{unit}.*  {prefix}.{i - 1}.{name}.*'
        for i in _LEVELS
        for unit, name in ((1, 'skip_unit'), (2, 'out_unit'))
    )


def _tpavi_block(i: int) -> str:
    """Rules of a TPAVI block."""
    names = dict(align_channel='align', norm_layer='layer_norm', g='g', theta='theta', phi='phi')
    names |= {'W_z.0': 'out', 'W_z.1': 'norm'}
    return '\n'.join(f'tpavi_b{i}.{a}.*  decode_head.blocks.{i - 1}.{b}.*' for a, b in names.items())


TPAVI = f"""
resnet.conv1.weight     backbone.conv1.weight
resnet.bn1.*            backbone.bn1.*
resnet.layer1.*         backbone.layer1.*
resnet.layer2.*         backbone.layer2.*
resnet.layer3_1.*       backbone.layer3.*
resnet.layer4_1.*       backbone.layer4.*
resnet.layer3_2.*       decode_head.extra_branch.layer3.*
resnet.layer4_2.*       decode_head.extra_branch.layer4.*
{PVT}*                  backbone.*
output_conv.*           decode_head.output.*
{_CONTEXT}
{_refine('decode_head.refine')}
{chr(10).join(map(_tpavi_block, _LEVELS))}
"""
_LAYER = {
    'self_attn': 'attn',
    'linear1': 'ffn.layers.0.0',
    'linear2': 'ffn.layers.1',
    'norm1': 'norms.0',
    'norm2': 'norms.1',
}
_DECODER = {**_LAYER, 'self_attn': 'self_attn.attn', 'multihead_attn': 'cross_attn.attn', 'norm3': 'norms.2'}
_FUSIONS = ('transformer.temporal_encoder.av_atten', 'transformer.temporal_encoder.va_atten', 'fusion_module')
_TEMPORAL = 'transformer.temporal_encoder.layers'


def _layers(theirs: str, ours: str, names: dict[str, str]) -> str:
    """Rules of the layers of a Transformer."""
    return '\n'.join(f'{theirs}.#.{a}.*  {ours}.{b}.*' for a, b in names.items())


def _unused() -> str:
    """Rules of what nothing uses."""
    parts = [*_FUSIONS, *(f'{_TEMPORAL}.{i}.{name}' for i in range(3) for name in ('av_atten', 'va_atten'))]
    projs = [f'{name}.vid_embed_proj.*  decode_head.unused.projs.{i}.*' for i, name in enumerate(parts)]
    fusions = [f'{name}.multihead_attn.*  decode_head.unused.fusions.{i}.*' for i, name in enumerate(_FUSIONS)]
    return '\n'.join([*projs, *fusions, _refine('decode_head.unused.paths')])


CATR = f"""
{PVT}*                  backbone.*
{_CONTEXT}
vid_embed_proj.*        decode_head.visual_proj.*
obj_queries.weight      decode_head.query_embed.weight
{_layers('transformer.spatial_encoder.layers', 'decode_head.spatial_layers.#', _LAYER)}
{_layers(_TEMPORAL, 'decode_head.temporal_layers.#.encoder', _LAYER)}
{_TEMPORAL}.#.av_atten.multihead_attn.*  decode_head.temporal_layers.#.visual_attn.*
{_TEMPORAL}.#.va_atten.multihead_attn.*  decode_head.temporal_layers.#.audio_attn.*
transformer.temporal_encoder.attention_feature.0.*  decode_head.gate.conv.*
transformer.temporal_encoder.output1.*  decode_head.gate.second.*
transformer.temporal_encoder.output2.*  decode_head.gate.third.*
{_layers('transformer.decoder.layers', 'decode_head.decoder.layers.#', _DECODER)}
transformer.decoder.norm.*              decode_head.decoder.post_norm.*
transformer.audio_proj.fc.*             decode_head.audio_proj.0.*
transformer.audio_proj.layer_norm.*     decode_head.audio_proj.1.*
{chr(10).join(f'spatial_decoder.lay{i}.*  decode_head.mask_features.convs.{i - 1}.conv.*' for i in _LEVELS)}
{chr(10).join(f'spatial_decoder.gn{i}.*  decode_head.mask_features.convs.{i - 1}.gn.*' for i in _LEVELS)}
spatial_decoder.adapter1.*              decode_head.mask_features.adapters.0.*
spatial_decoder.adapter2.*              decode_head.mask_features.adapters.1.*
spatial_decoder.out_lay.*               decode_head.mask_features.out.*
is_referred_head.*                      decode_head.class_head.*
instance_kernels_head.layers.0.*        decode_head.kernel_head.0.*
instance_kernels_head.layers.1.*        decode_head.kernel_head.2.*
{_unused()}
"""
RULES = dict(tpavi=TPAVI, catr=CATR)
# A key that only this model's published checkpoints have
_MARKS = dict(tpavi='tpavi_b1.theta.weight', catr='is_referred_head.weight')


def find_model(state: dict[str, Tensor]) -> str:
    """Tell the model, ``'tpavi_r50'``, ``'tpavi_pvt-v2-b5'`` or ``'catr_pvt-v2-b5'``, from published names."""
    found = [name for name, key in _MARKS.items() if key in state]
    if len(found) != 1:
        raise CheckpointError(f'no published closed-set model: one of {", ".join(_MARKS.values())} must be there')
    return f'{found[0]}_{"pvt-v2-b5" if any(key.startswith(PVT) for key in state) else "r50"}'


def convert_closed_set(state: dict[str, Tensor]) -> Conversion:
    """Convert a published state dict of TPAVI or CATR to our names, with an account of every key.

    Raises:
        CheckpointError: it is of neither.
    """
    from mmdet.models.backbones.pvt import pvt_convert

    rules = RULES[find_model(state).split('_')[0]]
    backbone = {key.removeprefix(PVT): value for key, value in state.items() if key.startswith(PVT)}
    try:
        renamed = {PVT + key: value for key, value in pvt_convert(backbone).items()}
    except KeyError as error:
        raise CheckpointError(f'{PVT}{error.args[0]} is missing: it is one matrix with that of queries here') from error
    result = convert({k: _plain(k, v) for k, v in state.items() if not k.startswith(PVT)} | renamed, [], rules)
    # an account of the published names; those of keys and values have become part of those of queries
    own = dict(zip([k for k in backbone if '.attn.kv.' not in k], renamed, strict=True))
    ours = {PVT + key: result.mapped.pop(own[key.replace('.attn.kv.', '.attn.q.')], None) for key in own}
    ours |= {PVT + k: ours[PVT + k.replace('.attn.kv.', '.attn.q.')] for k in backbone if k not in own}
    return result._replace(mapped=result.mapped | ours)


def drop_unused(conversion: Conversion, model: nn.Module) -> Conversion:
    """Drop weights that nothing uses where a model is built without them."""
    state, mapped, dropped = (dict(part) for part in (conversion.state, conversion.mapped, conversion.dropped))
    known = model.state_dict().keys()
    for key, name in conversion.mapped.items():
        if name and re.match(UNUSED, name) and name not in known:
            state.pop(name, None)
            del mapped[key]
            dropped[key] = 'nothing uses it, and the config has no place for it'
    return conversion._replace(state=state, mapped=mapped, dropped=dropped)


def classes_of(model: nn.Module) -> dict:
    """``dataset_meta`` of a model: what its classes are, as far as their number tells."""
    from ovavss_mm.datasets.vocabulary import PACKAGED_NAMES, read_names

    names = {1: ('sounding',), 71: read_names(str(PACKAGED_NAMES))}.get(model.decode_head.dense_classes)
    return dict(classes=('background', *names)) if names else {}


def _plain(key: str, value: Tensor) -> Tensor:
    """1 x 1 x 1 convolutions of TPAVI blocks act on each position alone: linear layers here."""
    return value.flatten(1) if key.startswith('tpavi_b') and value.ndim == 5 else value


def find_config(state: dict[str, Tensor]) -> str:
    """Path below ``configs/`` of the model that a published checkpoint is of; of one class it is that of S4."""
    model = find_model(state)
    if model.startswith('catr'):
        return f'catr/{model}_1xb2-100e_s4.py'
    binary = len(state.get('output_conv.4.weight', ())) == 1
    return f'tpavi/{model}_1xb4-{"15e_s4" if binary else "60e_avss"}.py'
