# TPAVI on the mini world: the R50 model in small, trained from scratch on a CPU within minutes
_base_ = [
    '../_base_/models/tpavi_r50.py',
    '../_base_/datasets/mini_world.py',
    '../_base_/schedules/tpavi_60e.py',
    '../_base_/default_runtime.py',
]
num_frames = 10
small = dict(depth=18, base_channels=16, init_cfg=None)
model = dict(
    data_preprocessor=dict(num_frames=num_frames, input_size=(96, 96)),
    backbone=small,
    audio_encoder=dict(_delete_=True, type='LogMelEncoder'),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=64),
    decode_head=dict(num_classes=_base_.num_names + 1, channels=64, output_channels=(32, 32), extra_branch=small),
    test_cfg=dict(window=num_frames),
)
sample_frames = dict(type='SampleClipFrames', num_frames=num_frames)
crop = dict(type='CropClip', size=96)
finish_train = [_base_.train_resize, crop, _base_.pack]
train_pipeline = [sample_frames, _base_.load_frames, _base_.load_labels, _base_.load_audio, *finish_train]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
test_pipeline = [_base_.load_frames, _base_.load_audio, _base_.load_labels, _base_.pack]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
max_iters = 2400
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=max_iters, val_begin=1, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=600, max_keep_ckpts=1))
