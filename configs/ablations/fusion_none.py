# Table 3: no early fusion
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(neck=dict(fusion=None))
