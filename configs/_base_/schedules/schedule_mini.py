# Minutes on a CPU, from scratch: one learning rate for all, a warm-up, then a cosine
_base_ = './schedule_82k.py'
max_iters = 1200
optim_wrapper = dict(
    optimizer=dict(lr=1e-3, fused=True),
    clip_grad=dict(max_norm=0.1),
    # batch norms learn here; like the rest of the backbone they decay
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=1.0, decay_mult=1.0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=100, end=max_iters, by_epoch=False, eta_min=1e-5),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
