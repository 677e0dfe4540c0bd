# GAVS on S4; masks are compared at the frames' own size
_base_ = [
    '../_base_/models/gavs_sam-vit-b.py',
    '../_base_/datasets/avsbench_s4.py',
    '../_base_/schedules/gavs_60e.py',
    '../_base_/default_runtime.py',
]
load_resized = [_base_.load_frames, dict(type='ResizeClip', short_side=1024, max_size=1024)]  # the long side is 1024
train_pipeline = [*load_resized, _base_.load_labels, _base_.load_audio, _base_.pack]
test_pipeline = train_pipeline
train_dataloader = dict(batch_size=1, num_workers=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_evaluator = test_evaluator = dict(thresholds=(0.5, 0.4))  # the benchmark's, and that of GAVS's authors
default_hooks = dict(checkpoint=dict(interval=_base_.epoch, save_best='J_video', rule='greater'))
randomness = dict(seed=42)
