# T = 1: every frame by itself
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
num_frames = 1
model = dict(decode_head=dict(num_frames=num_frames), test_cfg=dict(window=num_frames))
sample_frames = dict(type='SampleClipFrames', num_frames=num_frames)
train_pipeline = [sample_frames, *_base_.train_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
