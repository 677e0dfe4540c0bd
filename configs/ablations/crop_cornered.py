# The square's top left corner is that of the mask's box
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(classifier=dict(anchor='corner'))
