_base_ = [
    '../_base_/models/ovavss_swin-b.py',
    '../_base_/datasets/avsbench_ov.py',
    '../_base_/schedules/schedule_82k.py',
    '../_base_/default_runtime.py',
]
# Swin trains on clips of short side 240 or 360, and its relative position biases do not decay
train_pipeline = [
    dict(type='SampleClipFrames', num_frames=5),
    dict(type='LoadClipFrames'),
    dict(type='LoadClipLabels'),
    dict(type='LoadClipAudio'),
    dict(type='ResizeClip', short_side=(240, 360)),
    dict(type='FlipClip', prob=0.5),
    dict(type='PackAVSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'backbone.*relative_position_bias_table': dict(lr_mult=0.1, decay_mult=0.0)})
)
