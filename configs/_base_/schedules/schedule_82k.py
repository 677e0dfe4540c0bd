# AdamW of Mask2Former, batch of 1 clip (paper section 4.2)
no_decay = dict(decay_mult=0.0)
optimizer = dict(type='AdamW', lr=1e-4, weight_decay=0.05, betas=(0.9, 0.999))
optim_wrapper = dict(
    type='FiniteOptimWrapper',
    constructor='PrefixOptimWrapperConstructor',
    optimizer=optimizer,
    clip_grad=dict(max_norm=0.01, norm_type=2),
    paramwise_cfg=dict(
        # beginnings of names, * stands for any letters; the longest that fits counts
        custom_keys={
            'backbone': dict(lr_mult=0.1),
            'decode_head.query_embed': no_decay,
            'decode_head.query_feat': no_decay,
            'decode_head.level_embed': no_decay,
            'decode_head.pixel_decoder.level_encoding': no_decay,
            'decode_head.audio_embed': no_decay,
        },
        norm_decay_mult=0.0,
    ),
)
param_scheduler = [dict(type='MultiStepLR', begin=0, end=82000, by_epoch=False, milestones=[72171], gamma=0.1)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=82000, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
