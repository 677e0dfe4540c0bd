# Robustness to sound: the test split with white noise in place of each clip's sound
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
test_pipeline = [dict(type='SwapClipAudio', source='noise'), *_base_.test_pipeline]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
