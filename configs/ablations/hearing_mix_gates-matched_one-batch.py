# Mixed sounds, and visual gates that are supervised by the sounds of one batch alone
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py', '../_base_/models/hearing.py']
model = dict(neck=dict(_base_.gates_matched, loss_match=dict(type='SoundMatchLoss', memory=0)))
finish_train = [_base_.train_resize, _base_.flip, _base_.mix, _base_.load_audio, _base_.pack]
train_pipeline = [*_base_.load_train, *finish_train]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
