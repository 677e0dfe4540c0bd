# Another audio encoder with another sound front end: 32 kHz, three tokens a second
_base_ = ['./open_base.py']
load_audio = dict(type='LoadClipAudio', front_end=dict(type='ThirdsOfASecond'))
train_pipeline = [*_base_.load_train, load_audio, *_base_.finish_train]
test_pipeline = [_base_.load_frames, load_audio, *_base_.finish_test]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
model = dict(audio_encoder=dict(type='ThreeTokenEncoder'))
