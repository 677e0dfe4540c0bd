# GAVS on the AVSBench-OV clips of the mini world, sounding or not: the model in small, around the small SAM
_base_ = [
    '../_base_/models/gavs_sam-vit-b.py',
    '../_base_/models/foundation_mini.py',
    '../_base_/datasets/mini_world.py',
    '../_base_/schedules/gavs_60e.py',
    '../_base_/default_runtime.py',
]
num_frames = 5
num_names = 1
model = dict(
    data_preprocessor=dict(size_divisor=128),
    init_cfg=_base_.mini_sam.init_cfg,
    sam=_base_.mini_sam.config,
    audio_encoder=dict(_delete_=True, type='LogMelEncoder'),
    tune_v=1,
)
load_resized = [_base_.load_frames, dict(type='ResizeClip', short_side=128, max_size=128)]
test_pipeline = [*load_resized, _base_.load_labels, _base_.load_audio, _base_.pack]
train_pipeline = [dict(type='SampleClipFrames', num_frames=num_frames), *test_pipeline]
train_dataloader = dict(dataset=dict(binary=True, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(binary=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='AVSBinaryMetric', thresholds=(0.5, 0.4))
test_evaluator = val_evaluator
max_iters = 1200
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=50, end=max_iters, by_epoch=False, eta_min=1e-5),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=600, max_keep_ckpts=1))
