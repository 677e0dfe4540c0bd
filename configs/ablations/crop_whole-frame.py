# Table 5: CLIP sees the whole frame, black outside the mask
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(classifier=dict(crop='whole_frame'))
