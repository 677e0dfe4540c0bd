# CATR on the mini world: the PVT model in small, trained from scratch on a CPU within minutes
_base_ = [
    '../_base_/models/catr_pvt-v2-b5.py',
    '../_base_/datasets/mini_world.py',
    '../_base_/schedules/catr_100e.py',
    '../_base_/default_runtime.py',
]
num_frames = 10
layer_cfg = dict(num_heads=4, feedforward_channels=128)
model = dict(
    data_preprocessor=dict(input_size=(96, 96)),
    backbone=dict(embed_dims=16, num_layers=[1, 1, 2, 1], init_cfg=None),
    audio_encoder=dict(_delete_=True, type='LogMelEncoder'),
    neck=dict(in_channels=[16, 32, 80, 128], out_channels=64),
    decode_head=dict(
        num_classes=_base_.num_names,
        channels=64,
        num_queries=10,
        layer_cfg=layer_cfg,
        mask_channels=32,
        unused_positions=720,  # 5 x 12 x 12
        criterion=dict(class_weight=5.0),  # from scratch, and within minutes, classes else stay at chance
    ),
    test_cfg=dict(window=num_frames),
)
sample_frames = dict(type='SampleClipFrames', num_frames=num_frames)
affine = dict(type='AffineClip', degrees=20, scale=(0.5, 1.0), shear=10)
crop = dict(type='CropClip', size=96, random=True)
finish_train = [_base_.train_resize, affine, crop, _base_.flip, _base_.pack]
train_pipeline = [sample_frames, _base_.load_frames, _base_.load_labels, _base_.load_audio, *finish_train]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
test_pipeline = [_base_.load_frames, _base_.load_audio, _base_.load_labels, _base_.pack]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
max_iters = 1000
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=250, max_keep_ckpts=1))
