# Table 5: square crops for CLIP with ResNet-50
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
model = dict(classifier=dict(clip_model='RN50-quickgelu', init_cfg=dict(checkpoint='data/weights/RN50.pt')))
