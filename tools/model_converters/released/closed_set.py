# SPDX-License-Identifier: Apache-2.0
"""Names of weights in the published checkpoints of TPAVI and CATR, and what they are called here."""

from torch import Tensor

from ovavss_mm.utils.safe_loading import CheckpointError

from .keys import Conversion, convert

PVT = 'encoder_backbone.'
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
RULES = dict(tpavi=TPAVI)
# A key that only this model's published checkpoints have
_MARKS = dict(tpavi='tpavi_b1.theta.weight')


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
    renamed = {PVT + key: value for key, value in pvt_convert(backbone).items()} if backbone else {}
    result = convert({k: _plain(k, v) for k, v in state.items() if not k.startswith(PVT)} | renamed, [], rules)
    return result


def _plain(key: str, value: Tensor) -> Tensor:
    """1 x 1 x 1 convolutions of TPAVI blocks act on each position alone: linear layers here."""
    return value.flatten(1) if key.startswith('tpavi_b') and value.ndim == 5 else value
