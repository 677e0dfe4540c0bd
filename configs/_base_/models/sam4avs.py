# Sam4AVS: CLAP names each second's sound, Grounding DINO finds boxes for the names, SAM masks for the boxes
roberta = dict(
    vocab_size=50265,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
    max_position_embeddings=514,
)
htsat = dict(
    num_mel_bins=64,
    spec_size=256,
    window_size=8,
    patch_embeds_hidden_size=96,
    hidden_size=768,
    depths=[2, 2, 6, 2],
    num_attention_heads=[4, 8, 16, 32],
    num_hidden_layers=4,
    enable_fusion=False,
)
clap = dict(projection_dim=512, text_config=roberta, audio_config=htsat)
swin = dict(
    model_type='swin',
    image_size=384,
    embed_dim=128,
    depths=[2, 2, 18, 2],
    num_heads=[4, 8, 16, 32],
    window_size=12,
    out_indices=[2, 3, 4],
)
bert = dict(
    model_type='bert',
    vocab_size=30522,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
    max_position_embeddings=512,
)
grounding_dino = dict(
    backbone_config=swin,
    text_config=bert,
    d_model=256,
    num_queries=900,
    encoder_layers=6,
    decoder_layers=6,
    max_text_len=256,
)
vit_h = dict(
    hidden_size=1280,
    num_hidden_layers=32,
    num_attention_heads=16,
    global_attn_indexes=[7, 15, 23, 31],
    image_size=1024,
    patch_size=16,
    window_size=14,
    output_channels=256,
)
# the decoder's norms are torch's; the library's default for them is not what SAM was trained with
sam = dict(
    vision_config=vit_h,
    prompt_encoder_config=dict(hidden_size=256, image_size=1024, patch_size=16),
    mask_decoder_config=dict(hidden_size=256, layer_norm_eps=1e-5),
)
model = dict(
    type='Sam4AVS',
    data_preprocessor=dict(type='AVSegDataPreProcessor', mean=[0, 0, 0], std=[1, 1, 1], size_divisor=1),
    namer=dict(type='SoundNamer', config=clap, init_cfg=dict(type='Pretrained', checkpoint='laion/clap-htsat-unfused')),
    proposer=dict(
        type='TextBoxProposer',
        config=grounding_dino,
        init_cfg=dict(type='Pretrained', checkpoint='IDEA-Research/grounding-dino-base'),
    ),
    masker=dict(type='BoxMasker', config=sam, init_cfg=dict(type='Pretrained', checkpoint='facebook/sam-vit-huge')),
)
