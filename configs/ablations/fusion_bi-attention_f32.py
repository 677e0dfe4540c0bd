# Table 3: bi-attention with one level only
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(neck=dict(fused_levels=('f32',)))
