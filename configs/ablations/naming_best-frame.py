# A query is named by the frame in which its mask is largest and surest, not by all frames: a fifth of the crops
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(classifier=dict(crops='best'))
