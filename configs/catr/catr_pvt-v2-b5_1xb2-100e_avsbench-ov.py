# CATR on AVSBench-OV. How the authors of Table 2 made it semantic is not known; ours: a query has one of N names or
# none, on every frame that has labels
_base_ = [
    '../_base_/models/catr_pvt-v2-b5.py',
    '../_base_/datasets/avsbench_ov_224.py',
    '../_base_/schedules/catr_100e.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=_base_.num_names), test_cfg=dict(window=_base_.num_frames))
affine = dict(type='AffineClip', degrees=20, scale=(0.5, 1.0), shear=10)
crop = dict(type='CropClip', size=224, random=True)
finish_train = [_base_.train_resize, affine, crop, _base_.flip, _base_.pack]
train_pipeline = [*_base_.load_train, _base_.load_audio, *finish_train]
train_dataloader = dict(batch_size=2, num_workers=4, dataset=dict(pipeline=train_pipeline))
max_iters = 100 * 2592  # epochs of the 5,184 clips
param_scheduler = [dict(type='ConstantLR', factor=1.0, begin=0, end=max_iters, by_epoch=False)]
train_cfg = dict(max_iters=max_iters, val_interval=2592)
default_hooks = dict(checkpoint=dict(interval=2592, save_best='mIoU'))
randomness = dict(seed=123)
