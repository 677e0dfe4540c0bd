# OV2Seg with ResNet-50: Mask2Former on single frames, names in CLIP's text space, queries linked by a memory
_base_ = ['./ovavss_r50.py']
model = dict(
    audio_encoder=None,
    neck=dict(fusion=None),
    decode_head=dict(
        type='FrameQueryHead',
        object_hidden=1,
        text_channels=512,
        transformer_decoder=dict(audio_prompt=dict(type='NoAudioPrompt'), num_layers=6),
        criterion=dict(
            match_costs=[
                dict(type='JointScoreCost', weight=2.0),
                dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
                dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
            ],
            loss_sound=dict(no_object_weight=0.4),
            loss_mask=dict(_delete_=True, type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0),
            name_weight=3.4,  # 2, of the binary cross-entropy times 1.7
        ),
    ),
    tracker=dict(type='MomentumTracker', momentum=0.7),
    classifier=dict(
        _delete_=True,
        type='TextSpaceClassifier',
        clip_model='ViT-B-32-quickgelu',
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/ViT-B-32.pt'),
        templates='vild',
        logit_scale=50.0,
    ),
    test_cfg=dict(mode='whole', max_pairs=50, score_thr=0.3),
)
