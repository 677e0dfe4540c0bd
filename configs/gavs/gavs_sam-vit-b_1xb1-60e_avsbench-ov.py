# GAVS on AVSBench-OV, ours: the 5,184 clips of base names, sounding or not; its row of Table 1 has no names
_base_ = [
    '../_base_/models/gavs_sam-vit-b.py',
    '../_base_/datasets/avsbench_ov.py',
    '../_base_/schedules/gavs_60e.py',
    '../_base_/default_runtime.py',
]
num_frames = 10
load_resized = [_base_.load_frames, dict(type='ResizeClip', short_side=1024, max_size=1024)]  # the long side is 1024
test_pipeline = [*load_resized, _base_.load_labels, _base_.load_audio, _base_.pack]
train_pipeline = [dict(type='SampleClipFrames', num_frames=num_frames), *test_pipeline]
model = dict(test_cfg=dict(window=num_frames))
train_dataloader = dict(dataset=dict(binary=True, pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(binary=True, pipeline=test_pipeline))
val_evaluator = test_evaluator = dict(_delete_=True, type='AVSBinaryMetric', thresholds=(0.5, 0.4))
epoch = 5184
train_cfg = dict(max_iters=60 * epoch, val_interval=epoch)
default_hooks = dict(checkpoint=dict(interval=epoch, save_best='J_video', rule='greater'))
randomness = dict(seed=42)
