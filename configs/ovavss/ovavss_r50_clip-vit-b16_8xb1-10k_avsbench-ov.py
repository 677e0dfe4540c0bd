# Eight GPUs, a clip each: an eighth of the iterations, and sqrt(8) times the learning rate (see docs/training.md)
_base_ = ['./ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
optim_wrapper = dict(optimizer=dict(lr=2.83e-4))
param_scheduler = [dict(type='MultiStepLR', begin=0, end=10250, by_epoch=False, milestones=[9021], gamma=0.1)]
train_cfg = dict(max_iters=10250, val_interval=625)
default_hooks = dict(checkpoint=dict(interval=625))
