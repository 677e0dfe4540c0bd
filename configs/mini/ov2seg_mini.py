# OV2Seg on the mini world, as long as the rows of the ablations
_base_ = ['./ovavss_mini_ablation.py']
clip = _base_.model.classifier
criterion = dict(
    match_costs=[
        dict(type='JointScoreCost', weight=2.0),
        dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
        dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
    ],
    loss_sound=dict(no_object_weight=0.4),
    loss_mask=dict(_delete_=True, type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0),
)
decoder = dict(audio_prompt=dict(type='NoAudioPrompt'))
head = dict(type='FrameQueryHead', object_hidden=1, text_channels=64, transformer_decoder=decoder, criterion=criterion)
parts = dict(clip_model=clip.clip_model, init_cfg=clip.init_cfg, tokenizer=clip.tokenizer, templates=clip.templates)
model = dict(
    audio_encoder=None,
    neck=dict(fusion=None),
    decode_head=head,
    tracker=dict(type='MomentumTracker', momentum=0.7),
    classifier=dict(_delete_=True, type='TextSpaceClassifier', **parts),
    test_cfg=dict(mode='whole', max_pairs=50),
)
