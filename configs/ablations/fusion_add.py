# Table 3: audio is added to every position of the three levels
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(neck=dict(fusion=dict(_delete_=True, type='AddFusion')))
