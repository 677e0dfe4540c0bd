# CLAP, Grounding DINO and SAM in small, which ship with the package and know the mini world
weights = 'ovavss_mm://mini_world'
texts = dict(
    hidden_size=64,
    num_attention_heads=2,
    intermediate_size=128,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
sounds = dict(
    num_mel_bins=64,
    spec_size=128,
    window_size=4,
    patch_size=4,
    patch_stride=[4, 4],
    patch_embeds_hidden_size=32,
    hidden_size=64,
    depths=[2, 2],
    num_attention_heads=[2, 4],
    num_hidden_layers=2,
    mlp_ratio=2.0,
    enable_fusion=False,
    hidden_dropout_prob=0.0,
    num_classes=1,
)
mini_clap_front = dict(type='CLAPLogMel', sample_rate=16000, seconds=2, hop=160, max_hz=8000)
mini_clap = dict(
    type='SoundNamer',
    config=dict(
        projection_dim=64,
        text_config=dict(vocab_size=400, num_hidden_layers=2, max_position_embeddings=80, **texts),
        audio_config=sounds,
    ),
    init_cfg=dict(type='Pretrained', checkpoint=f'{weights}/clap_mini'),
)
mini_grounding_dino = dict(
    type='TextBoxProposer',
    config=dict(
        backbone_config=dict(
            model_type='bit',
            embedding_size=32,
            hidden_sizes=[64, 128, 128],
            depths=[1, 2, 2],
            layer_type='bottleneck',
            num_groups=8,
            out_indices=[2, 3],
        ),
        text_config=dict(model_type='bert', vocab_size=1030, num_hidden_layers=1, max_position_embeddings=64, **texts),
        d_model=64,
        num_queries=20,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_text_len=32,
        num_feature_levels=2,
        dropout=0.0,
        fusion_droppath=0.0,
    ),
    init_cfg=dict(type='Pretrained', checkpoint=f'{weights}/grounding_dino_mini'),
    short_side=96,
    long_side=160,
    chunk_size=16,
)
mini_sam = dict(
    type='BoxMasker',
    config=dict(
        vision_config=dict(
            hidden_size=64,
            output_channels=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=128,
            patch_size=8,
            window_size=0,
            global_attn_indexes=[0, 1, 2],
            mlp_ratio=2.0,
            num_pos_feats=32,
        ),
        prompt_encoder_config=dict(hidden_size=64, image_size=128, patch_size=8, mask_input_channels=16),
        mask_decoder_config=dict(
            hidden_size=64,
            mlp_dim=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            iou_head_hidden_dim=64,
            layer_norm_eps=1e-5,
        ),
    ),
    init_cfg=dict(type='Pretrained', checkpoint=f'{weights}/sam_mini'),
)
