# GAVS with SAM ViT-B; sizes are those of the published code, what is ours is said
model = dict(
    type='PromptedSAM',
    data_preprocessor=dict(
        type='AVSegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        size_divisor=1024,  # to squares: the pipeline makes the long side 1024
    ),
    init_cfg=dict(type='Pretrained', checkpoint='facebook/sam-vit-base'),  # of SAM: an id of the hub, or a folder
    sam=dict(
        vision_config=dict(
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            image_size=1024,
            patch_size=16,
            window_size=14,
            global_attn_indexes=[2, 5, 8, 11],
            output_channels=256,
        ),
        prompt_encoder_config=dict(hidden_size=256, image_size=1024, patch_size=16),
        mask_decoder_config=dict(hidden_size=256, mlp_dim=2048, layer_norm_eps=1e-5),
    ),
    audio_encoder=dict(
        type='VGGishEncoder', init_cfg=dict(type='Pretrained', checkpoint='data/weights/vggish-10086976.pth')
    ),
    tune_v=9,
    adapter_channels=128,
    prompt_noise='add',  # published: 'replace', which leaves no sound in training
    visual_cue=False,
    triplet_weight=0.0,
    test_cfg=dict(mode='slide', window=5),  # frames are independent: only memory depends on it
)
