# Visual gates that are supervised by the match of positions and sounds, without mixed sounds
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py', '../_base_/models/hearing.py']
model = dict(neck=_base_.gates_matched)
