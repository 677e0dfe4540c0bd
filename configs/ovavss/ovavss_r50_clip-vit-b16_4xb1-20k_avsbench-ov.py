# Four GPUs, a clip each: a quarter of the iterations, and twice the learning rate (see docs/training.md)
_base_ = ['./ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [dict(type='MultiStepLR', begin=0, end=20500, by_epoch=False, milestones=[18043], gamma=0.1)]
train_cfg = dict(max_iters=20500, val_interval=1250)
default_hooks = dict(checkpoint=dict(interval=1250))
