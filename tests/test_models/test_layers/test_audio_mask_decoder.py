# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmdet.models.layers.transformer.mask2former_layers import Mask2FormerTransformerDecoderLayer
from mmseg.registry import MODELS
from tiny_model import draw_weights, tiny_config
from torch import nn

from ovavss_mm.models.layers import AudioMaskDecoder, AudioMaskDecoderLayer
from ovavss_mm.models.layers.audio_prompts import AudioAttention

ATTN = dict(embed_dims=8, num_heads=2, batch_first=True)
BATCH, QUERIES, TOKENS, FRAMES, HEADS = 2, 3, 10, 4, 4


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.double)


# ------------------------------------------------------------------ AudioAttention
@pytest.fixture
def attention():
    return draw_weights(AudioAttention(ATTN)).double().eval()


def test_attention_is_post_norm_with_positions_in_queries_and_keys_only(attention):
    query, key, query_pos, key_pos = (randn(2, n, 8) for n in (3, 5, 3, 5))
    plain = nn.MultiheadAttention(8, 2, batch_first=True).double().eval()
    plain.load_state_dict(attention.attn.attn.state_dict())
    update = plain(query + query_pos, key + key_pos, key, need_weights=False)[0]
    expected = nn.functional.layer_norm(query + update, (8,), attention.norm.weight, attention.norm.bias)
    assert torch.allclose(attention(query, key, query_pos, key_pos), expected)


def test_attention_does_not_know_the_order_of_tokens(attention):
    query, key, query_pos, key_pos = (randn(2, n, 8) for n in (3, 5, 3, 5))
    order = [3, 1, 4, 0, 2]
    expected = attention(query, key, query_pos, key_pos)
    shuffled = attention(query, key[:, order], query_pos, key_pos[:, order])
    assert torch.allclose(expected, shuffled)
    assert not torch.allclose(expected, attention(query, key[:, order], query_pos, key_pos))


# ------------------------------------------------------------------ one block
@pytest.fixture
def layer():
    config = tiny_config().decode_head.transformer_decoder.layer_cfg
    return draw_weights(AudioMaskDecoderLayer(**config)).double().eval()


@pytest.fixture
def inputs():
    """Arguments of a block; no token is masked."""
    return dict(
        query=randn(BATCH, QUERIES, 32),
        memory=randn(BATCH, TOKENS, 32),
        audio=randn(BATCH, FRAMES, 32),
        query_pos=randn(BATCH, QUERIES, 32),
        memory_pos=randn(BATCH, TOKENS, 32),
        audio_pos=randn(BATCH, FRAMES, 32),
        attn_mask=torch.zeros(BATCH * HEADS, QUERIES, TOKENS, dtype=torch.bool),
    )


def test_without_audio_the_block_is_the_hosts(layer, inputs):
    """An audio attention that adds nothing leaves a norm of what is normal already."""
    for norm in (layer.norms[1], layer.audio_attn.norm):
        nn.init.ones_(norm.weight)
        nn.init.zeros_(norm.bias)
    nn.init.zeros_(layer.audio_attn.attn.attn.out_proj.weight)
    nn.init.zeros_(layer.audio_attn.attn.attn.out_proj.bias)
    config = tiny_config().decode_head.transformer_decoder.layer_cfg
    host = Mask2FormerTransformerDecoderLayer(**config).double().eval()
    own = layer.state_dict()
    host.load_state_dict({k: v for k, v in own.items() if not k.startswith('audio_attn.')})
    inputs['attn_mask'][:, :, ::2] = True
    expected = host(
        inputs['query'],
        key=inputs['memory'],
        value=inputs['memory'],
        query_pos=inputs['query_pos'],
        key_pos=inputs['memory_pos'],
        cross_attn_mask=inputs['attn_mask'],
    )
    assert torch.allclose(layer(**inputs), expected, atol=1e-4)


def test_queries_attend_to_audio_between_self_attention_and_ffn(layer, inputs):
    """With all but the audio made to add nothing, what is left is norm(audio_attn(norm(query)))."""
    for attention in (layer.cross_attn, layer.self_attn):
        nn.init.zeros_(attention.attn.out_proj.weight)
        nn.init.zeros_(attention.attn.out_proj.bias)
    nn.init.zeros_(layer.ffn.layers[1].weight)
    nn.init.zeros_(layer.ffn.layers[1].bias)
    query = layer.norms[1](layer.norms[0](inputs['query']))
    query = layer.audio_attn(query, inputs['audio'], inputs['query_pos'], inputs['audio_pos'])
    assert torch.allclose(layer(**inputs), layer.norms[2](query))


def test_masked_tokens_are_not_seen(layer, inputs):
    inputs['attn_mask'][:, 0, 6:] = True  # query 0 sees tokens 0 to 5 only
    # queries hear of each other in self-attention: take that out
    nn.init.zeros_(layer.self_attn.attn.out_proj.weight)
    before = layer(**inputs)
    inputs['memory'] = inputs['memory'].clone()
    inputs['memory'][:, 6:] += 1.0
    after = layer(**inputs)
    assert torch.equal(before[:, 0], after[:, 0])
    assert (before[:, 1:] - after[:, 1:]).abs().amin((0, 2)).min() > 0


@pytest.mark.parametrize('name', ['memory', 'audio', 'memory_pos', 'audio_pos', 'query_pos'])
def test_every_input_counts_within_its_clip(layer, inputs, name):
    before = layer(**inputs)
    inputs[name] = inputs[name].clone()
    inputs[name][1] += randn(*inputs[name].shape[1:])
    after = layer(**inputs)
    assert torch.equal(before[0], after[0])
    assert (before[1] - after[1]).abs().max() > 1e-3


# ------------------------------------------------------------------ all blocks
def test_decoder_has_blocks_and_two_attentions_of_its_own():
    decoder = MODELS.build(tiny_config().decode_head.transformer_decoder)
    assert isinstance(decoder, AudioMaskDecoder)
    assert len(decoder.layers) == 4 and decoder.embed_dims == 32 and decoder.num_heads == HEADS
    assert all(type(layer) is AudioMaskDecoderLayer for layer in decoder.layers)
    names = {name.split('.')[0] for name, _ in decoder.named_parameters()}
    assert names == {'layers', 'post_norm', 'audio_prompt'}
    names = {name.split('.')[0] for name, _ in decoder.audio_prompt.named_parameters()}
    assert names == {'query_audio_attn', 'audio_self_attn'}
