# Mixed sounds, and an audio token for each time step of the audio encoder's map
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py', '../_base_/models/hearing.py']
model = dict(audio_encoder=dict(tokens=dict(type='TimeTokens')))
finish_train = [_base_.train_resize, _base_.flip, _base_.mix, _base_.load_audio, _base_.pack]
train_pipeline = [*_base_.load_train, *finish_train]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
