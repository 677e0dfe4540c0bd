# Robustness to sound: the test split with another clip's sound, from off the screen, beside each clip's own
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
test_pipeline = [dict(type='SwapClipAudio', source='off_screen'), *_base_.test_pipeline]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
