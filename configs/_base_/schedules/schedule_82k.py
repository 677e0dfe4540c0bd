# AdamW of Mask2Former, batch of 1 clip (paper section 4.1)
embed_multi = dict(lr_mult=1.0, decay_mult=0.0)
optimizer = dict(type='AdamW', lr=1e-4, weight_decay=0.05, betas=(0.9, 0.999))
optim_wrapper = dict(
    type='FiniteOptimWrapper',
    optimizer=optimizer,
    clip_grad=dict(max_norm=0.01, norm_type=2),
    paramwise_cfg=dict(
        custom_keys={
            'backbone': dict(lr_mult=0.1, decay_mult=1.0),
            'query_embed': embed_multi,
            'query_feat': embed_multi,
            'level_embed': embed_multi,
            'level_encoding': embed_multi,
            'audio_embed': embed_multi,
        },
        norm_decay_mult=0.0,
    ),
)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=82000, by_epoch=False, milestones=[72171], gamma=0.1)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=82000, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
