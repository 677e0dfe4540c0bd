# T = 1: every frame by itself
_base_ = ['../{{$OVAVSS_BASE:ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov}}.py']
model = dict(decode_head=dict(num_frames=1), test_cfg=dict(window=1))
train_pipeline = [dict(type='SampleClipFrames', num_frames=1), *_base_.train_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
