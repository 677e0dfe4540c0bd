# Masks are named in one pass a frame of the mini CLIP with a ResNet, pooled over each; it differs at test time only
_base_ = ['./ovavss_mini.py']
base = _base_.model.classifier
vision_cfg = dict(image_size=96, layers=[1, 1, 2, 2], width=8, head_width=32)
clip = dict(
    clip_model=dict(base.clip_model, vision_cfg=vision_cfg),
    init_cfg=dict(type='Pretrained', checkpoint='ovavss_mm://mini_world/clip_mini_rn.safetensors'),
)
texts = dict(tokenizer=base.tokenizer, templates=base.templates, sound_thr=base.sound_thr)
pooling = dict(type='MaskPoolingClassifier', share_backbone=False, combine='mean')
model = dict(classifier=dict(_delete_=True, **pooling, **clip, **texts))
