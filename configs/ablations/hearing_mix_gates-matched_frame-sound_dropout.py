# Mixed sounds, supervised gates, a sound score per frame and query, and audio dropout
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py', '../_base_/models/hearing.py']
neck = dict(_base_.gates_matched, audio_dropout=0.2)
model = dict(neck=neck, decode_head=dict(frame_scores=[_base_.frame_sound]))
finish_train = [_base_.train_resize, _base_.flip, _base_.mix, _base_.load_audio, _base_.pack]
train_pipeline = [*_base_.load_train, *finish_train]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
