# GAVS on S4 of the mini world: the model in small, around a small SAM that comes with the package
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
train_pipeline = [*load_resized, _base_.load_labels, _base_.load_audio, _base_.pack]
test_pipeline = train_pipeline
task = dict(_delete_=True, type='AVSBenchDataset', data_root=_base_.data_root, task='s4')
train_dataloader = dict(dataset=dict(**task, split='train', pipeline=train_pipeline))
test_dataset = dict(**task, test_mode=True, pipeline=test_pipeline)
val_dataloader = dict(dataset=dict(**test_dataset, split='val'))
test_dataloader = dict(dataset=dict(**test_dataset, split='test'))
val_evaluator = dict(_delete_=True, type='AVSBinaryMetric', thresholds=(0.5, 0.4))
test_evaluator = val_evaluator
max_iters = 1200
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=50, end=max_iters, by_epoch=False, eta_min=1e-5),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=600, max_keep_ckpts=1))
