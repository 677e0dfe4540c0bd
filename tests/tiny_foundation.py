# SPDX-License-Identifier: Apache-2.0
"""CLAP, Grounding DINO and SAM in tiny, and tokenizers for them."""

import string
from pathlib import Path

CLAP = dict(
    projection_dim=16,
    text_config=dict(
        **dict(vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16),
        max_position_embeddings=80,
    ),
    audio_config=dict(
        **dict(num_mel_bins=16, spec_size=64, window_size=4, patch_embeds_hidden_size=8, hidden_size=16, depths=[1, 1]),
        **dict(num_attention_heads=[2, 2], num_hidden_layers=2, enable_fusion=False),
    ),
)
FRONT_END = dict(type='CLAPLogMel', sample_rate=8000, seconds=2, mels=16, fft=256, hop=80, max_hz=4000)
CLAP_SHAPE = (1, 201, 16)  # of a row
GROUNDING_DINO = dict(
    backbone_config=dict(
        **dict(model_type='swin', image_size=64, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[1, 2]),
        **dict(window_size=4, out_indices=[1, 2]),
    ),
    text_config=dict(
        **dict(model_type='bert', vocab_size=1030, hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
        **dict(intermediate_size=16, max_position_embeddings=64),
    ),
    **dict(d_model=32, num_queries=6, encoder_layers=1, decoder_layers=2, num_feature_levels=2, max_text_len=16),
    **dict(encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32),
)
SAM = dict(
    vision_config=dict(
        **dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=64, patch_size=8, mlp_ratio=2.0),
        **dict(window_size=3, global_attn_indexes=[0], output_channels=16, num_pos_feats=8, initializer_range=0.02),
    ),
    prompt_encoder_config=dict(hidden_size=16, image_size=64, patch_size=8, mask_input_channels=4),
    mask_decoder_config=dict(
        **dict(hidden_size=16, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=16),
        layer_norm_eps=1e-5,
    ),
)


def roberta_tokenizer(folder: Path) -> str:
    """Save a tokenizer of CLAP that reads letters; gives the folder."""
    from transformers import RobertaTokenizer

    letters = ['<s>', '<pad>', '</s>', '<unk>', '\u0120', *string.ascii_letters, *string.digits]
    RobertaTokenizer(vocab={token: i for i, token in enumerate(letters)}, merges=[]).save_pretrained(folder)
    return str(folder)


def bert_tokenizer(folder: Path) -> str:
    """Save a tokenizer of Grounding DINO that reads letters; gives the folder."""
    from transformers import BertTokenizer

    fixed = {'[PAD]': 0, '[UNK]': 100, '[CLS]': 101, '[SEP]': 102, '.': 1012, '?': 1029}
    letters = [*string.ascii_lowercase, *string.digits]
    pieces = [*letters, *(f'##{letter}' for letter in letters)]
    vocab = fixed | {piece: 200 + i for i, piece in enumerate(pieces)}
    unused = {f'[unused{i}]': i for i in set(range(1030)) - set(vocab.values())}
    BertTokenizer(vocab=dict(sorted((vocab | unused).items(), key=lambda item: item[1]))).save_pretrained(folder)
    return str(folder)
