# SPDX-License-Identifier: Apache-2.0
"""Names of weights in SAM's published files and in those of GAVS, and what they are called here."""

from collections.abc import Mapping

from torch import Tensor

from ovavss_mm.utils.safe_loading import CheckpointError

from .keys import Conversion, convert

PREFIX = 'model_v.'  # of SAM in a checkpoint of GAVS
_MLPS = 'proj_in', 'layers.0', 'proj_out'
_MLP_RULES = '\n'.join(
    f'mask_decoder.{name}.layers.{i}.*  mask_decoder.{name}.{ours}.*'
    for name in ('output_hypernetworks_mlps.#', 'iou_prediction_head')
    for i, ours in enumerate(_MLPS)
)
# To the names of transformers' SamModel.
SAM = f"""
image_encoder.patch_embed.proj.*        vision_encoder.patch_embed.projection.*
image_encoder.pos_embed                 vision_encoder.pos_embed
image_encoder.neck.0.*                  vision_encoder.neck.conv1.*
image_encoder.neck.1.*                  vision_encoder.neck.layer_norm1.*
image_encoder.neck.2.*                  vision_encoder.neck.conv2.*
image_encoder.neck.3.*                  vision_encoder.neck.layer_norm2.*
image_encoder.blocks.#.norm#.*          vision_encoder.layers.#.layer_norm#.*
image_encoder.blocks.#.attn.*           vision_encoder.layers.#.attn.*
image_encoder.blocks.#.mlp.*            vision_encoder.layers.#.mlp.*
prompt_encoder.pe_layer.positional_encoding_gaussian_matrix  prompt_encoder.shared_embedding.positional_embedding
prompt_encoder.point_embeddings.#.*     prompt_encoder.point_embed.#.*
prompt_encoder.mask_downscaling.0.*     prompt_encoder.mask_embed.conv1.*
prompt_encoder.mask_downscaling.1.*     prompt_encoder.mask_embed.layer_norm1.*
prompt_encoder.mask_downscaling.3.*     prompt_encoder.mask_embed.conv2.*
prompt_encoder.mask_downscaling.4.*     prompt_encoder.mask_embed.layer_norm2.*
prompt_encoder.mask_downscaling.6.*     prompt_encoder.mask_embed.conv3.*
prompt_encoder.not_a_point_embed.*      prompt_encoder.not_a_point_embed.*
prompt_encoder.no_mask_embed.*          prompt_encoder.no_mask_embed.*
mask_decoder.output_upscaling.0.*       mask_decoder.upscale_conv1.*
mask_decoder.output_upscaling.1.*       mask_decoder.upscale_layer_norm.*
mask_decoder.output_upscaling.3.*       mask_decoder.upscale_conv2.*
{_MLP_RULES}
mask_decoder.transformer.norm_final_attn.*   mask_decoder.transformer.layer_norm_final_attn.*
mask_decoder.transformer.layers.#.norm#.*    mask_decoder.transformer.layers.#.layer_norm#.*
mask_decoder.transformer.*              mask_decoder.transformer.*
mask_decoder.iou_token.*                mask_decoder.iou_token.*
mask_decoder.mask_tokens.*              mask_decoder.mask_tokens.*
"""
_OUR_BLOCK, _OUR_LAYER = 'sam.model.vision_encoder.layers.#', 'sam.model.mask_decoder.transformer.layers.#'
_WHOLE = '\n'.join(f'{PREFIX}{a}  sam.model.{b}' for a, b in map(str.split, filter(None, SAM.splitlines())))
# Those of GAVS to PromptedSAM: an adapter is around each MLP.
GAVS = f"""
{PREFIX}mask_decoder.audio_proj.#.*               audio_prompt.#.*
{PREFIX}image_encoder.blocks.#.adapter_v.0.*      {_OUR_BLOCK}.mlp.down.*
{PREFIX}image_encoder.blocks.#.adapter_v.2.*      {_OUR_BLOCK}.mlp.up.*
{PREFIX}image_encoder.blocks.#.mlp.*              {_OUR_BLOCK}.mlp.mlp.*
{PREFIX}mask_decoder.transformer.layers.#.adapter_tf.dense.*  {_OUR_LAYER}.mlp.down.*
{PREFIX}mask_decoder.transformer.layers.#.adapter_tf.proj.*   {_OUR_LAYER}.mlp.up.*
{PREFIX}mask_decoder.transformer.layers.#.mlp.*   {_OUR_LAYER}.mlp.mlp.*
{_WHOLE}
"""
_POSITIONS = 'prompt_encoder.shared_embedding.positional_embedding', 'shared_image_embedding.positional_embedding'


def is_gavs(state: Mapping[str, Tensor]) -> bool:
    """Whether published names are those of GAVS, and not of SAM alone.

    Raises:
        CheckpointError: they are of neither.
    """
    marks = [f'{prefix}image_encoder.pos_embed' in state for prefix in (PREFIX, '')]
    if sum(marks) != 1:
        raise CheckpointError(f'no SAM: image_encoder.pos_embed must be there, or {PREFIX}image_encoder.pos_embed')
    return marks[0]


def convert_sam(state: dict[str, Tensor]) -> Conversion:
    """Convert SAM's published weights, or those of GAVS, with an account of every key.

    Returns:
        Conversion: names of transformers' ``SamModel``; of GAVS those of ``PromptedSAM``, but for its audio encoder.

    Raises:
        CheckpointError: they are of neither.
    """
    gavs = is_gavs(state)
    result = convert(state, [], GAVS if gavs else SAM)
    first, second = (f'sam.model.{name}' if gavs else name for name in _POSITIONS)
    if first in result.state:  # one matrix under two names
        result.state[second] = result.state[first]
    return result


def sam_config(state: Mapping[str, Tensor]) -> dict:
    """Arguments of transformers' ``SamConfig`` for published weights, of which only shapes are looked at.

    Raises:
        CheckpointError: a name is missing.
    """
    prefix = PREFIX if is_gavs(state) else ''
    shapes = {key.removeprefix(prefix): tuple(value.shape) for key, value in state.items() if key.startswith(prefix)}

    def count(tower: str) -> int:
        return len({key.removeprefix(tower).split('.')[0] for key in shapes if key.startswith(tower)})

    try:
        _, side, _, width = shapes['image_encoder.pos_embed']
        patch = shapes['image_encoder.patch_embed.proj.weight'][-1]
        blocks = [f'image_encoder.blocks.{i}' for i in range(count('image_encoder.blocks.'))]
        lengths = [shapes[f'{block}.attn.rel_pos_h'] for block in blocks]  # (2 * side - 1, channels of a head)
        out = shapes['image_encoder.neck.0.weight'][0]
        layer = 'mask_decoder.transformer.layers.'
        vision = dict(
            hidden_size=width,
            num_hidden_layers=len(blocks),
            num_attention_heads=width // lengths[0][1],
            image_size=patch * side,
            patch_size=patch,
            window_size=(min(lengths)[0] + 1) // 2,
            global_attn_indexes=[i for i, (length, _) in enumerate(lengths) if length == 2 * side - 1],
            mlp_dim=shapes[f'{blocks[0]}.mlp.lin1.weight'][0],
            output_channels=out,
            num_pos_feats=out // 2,
        )
        prompts = dict(hidden_size=out, image_size=patch * side, patch_size=patch)
        prompts['mask_input_channels'] = shapes['prompt_encoder.mask_downscaling.3.weight'][0]
        decoder = dict(
            hidden_size=out,
            num_hidden_layers=count(layer),
            mlp_dim=shapes[f'{layer}0.mlp.lin1.weight'][0],
            iou_head_hidden_dim=shapes['mask_decoder.iou_prediction_head.layers.0.weight'][0],
            layer_norm_eps=1e-5,
        )
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(f'no SAM: {error} is missing or of another shape') from error
    return dict(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
