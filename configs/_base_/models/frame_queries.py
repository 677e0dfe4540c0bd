# What OV2Seg and CLIP-VIS have in common, as changes of OV-AVSS: Mask2Former on single frames (docs/open_vocabulary.md)
mask_costs = [
    dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
    dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
]
frame_queries = dict(
    audio_encoder=None,
    neck=dict(fusion=None),
    decode_head=dict(
        type='FrameQueryHead',
        transformer_decoder=dict(audio_prompt=dict(type='NoAudioPrompt')),
        criterion=dict(
            loss_sound=dict(no_object_weight=0.4),
            loss_mask=dict(_delete_=True, type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0),
        ),
    ),
    test_cfg=dict(mode='whole', max_pairs=50),
)
