_base_ = [
    '../_base_/models/ovavss_swin-b.py',
    '../_base_/datasets/avsbench_ov.py',
    '../_base_/schedules/schedule_82k.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_frames=_base_.num_frames), test_cfg=dict(window=_base_.num_frames))
# from COCO, see tools/model_converters/mask2former_detectron2.py
load_from = 'data/weights/mask2former_swin-b_coco.pth'
# Swin trains on clips of short side 240 or 360
train_resize = dict(type='ResizeClip', short_side=(240, 360))
finish_train = [train_resize, _base_.flip, _base_.pack]
train_pipeline = [*_base_.load_train, _base_.load_audio, *finish_train]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
position_bias = {'backbone.*.relative_position_bias_table': dict(lr_mult=0.1, decay_mult=0.0)}
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=position_bias))
