# OV-AVSS with ResNet-50 and CLIP ViT-B/16; every size is the paper's
num_points = 12544
data_preprocessor = dict(
    type='AVSegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    pad_val=0,
    seg_pad_val=255,
    size_divisor=32,
)
attn_cfg = dict(embed_dims=256, num_heads=8, attn_drop=0.0, proj_drop=0.0, dropout_layer=None, batch_first=True)
model = dict(
    type='AVEncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        style='pytorch',
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
    ),
    audio_encoder=dict(
        type='VGGishEncoder', init_cfg=dict(type='Pretrained', checkpoint='data/weights/vggish-10086976.pth')
    ),
    neck=dict(
        type='AVFusionNeck',
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        audio_channels=128,
        norm_cfg=dict(type='GN', num_groups=32),
        fusion=dict(type='BiAttention', embed_dims=1024, num_heads=8, dropout=0.1, layer_scale=1 / 6),
    ),
    decode_head=dict(
        type='AudioMaskDecHead',
        in_channels=[256, 256, 256, 256],
        feat_channels=256,
        out_channels=256,
        num_queries=100,
        audio_channels=128,
        pixel_decoder=dict(
            type='FusedPixelDecoder',
            num_outs=3,
            norm_cfg=dict(type='GN', num_groups=32),
            act_cfg=dict(type='ReLU'),
            encoder=dict(
                num_layers=6,
                layer_cfg=dict(
                    self_attn_cfg=dict(
                        embed_dims=256, num_heads=8, num_levels=3, num_points=4, dropout=0.0, batch_first=True
                    ),
                    ffn_cfg=dict(
                        embed_dims=256, feedforward_channels=1024, num_fcs=2, ffn_drop=0.0, act_cfg=dict(type='ReLU')
                    ),
                ),
                init_cfg=None,
            ),
            positional_encoding=dict(num_feats=128, normalize=True),
            init_cfg=None,
        ),
        transformer_decoder=dict(
            type='AudioMaskDecoder',
            audio_prompt=dict(type='AudioMaskDecPrompt'),
            num_layers=9,
            layer_cfg=dict(
                self_attn_cfg=attn_cfg,
                cross_attn_cfg=attn_cfg,
                ffn_cfg=dict(
                    embed_dims=256, feedforward_channels=2048, num_fcs=2, ffn_drop=0.0, act_cfg=dict(type='ReLU')
                ),
            ),
            init_cfg=None,
        ),
        positional_encoding=dict(num_feats=128, normalize=True),
        criterion=dict(
            num_points=num_points,
            oversample_ratio=3.0,
            importance_sample_ratio=0.75,
            match_costs=[
                dict(type='mmdet.ClassificationCost', weight=2.0),
                dict(type='mmdet.FocalLossCost', weight=5.0, binary_input=True),
                dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
            ],
            loss_sound=dict(type='SoundScoreLoss', no_object_weight=0.1, loss_weight=2.0),
            loss_mask=dict(type='MaskFocalLoss', loss_weight=5.0),
            loss_dice=dict(type='mmdet.DiceLoss', naive_dice=True, eps=1.0, loss_weight=5.0),
        ),
    ),
    classifier=dict(
        type='CLIPSquareCropClassifier',
        clip_model='ViT-B-16-quickgelu',
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/ViT-B-16.pt'),
        templates='vild',
        sound_thr=0.5,
        anchor='center',
        mask_size='image',
    ),
    test_cfg=dict(mode='slide', max_pairs=10, score_thr=0.3),
)
