# One prompt a name instead of 14
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(classifier=dict(templates=['a photo of a {}.']))
