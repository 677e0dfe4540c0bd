# Table 5: the mask's box is stretched to CLIP's input
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(classifier=dict(crop='resize'))
