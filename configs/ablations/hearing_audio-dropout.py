# A fifth of the audio channels is dropped in training
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py', '../_base_/models/hearing.py']
model = dict(neck=dict(audio_dropout=0.2))
