# CLIP-VIS on the mini world, as long as the rows of the ablations: the frozen mini CLIP with a ResNet is the backbone
_base_ = ['./ovavss_mini_ablation.py', '../_base_/models/frame_queries.py']
base = _base_.model.classifier
vision_cfg = dict(image_size=96, layers=[1, 1, 2, 2], width=8, head_width=32)
init_cfg = dict(type='Pretrained', checkpoint='ovavss_mm://mini_world/clip_mini_rn.safetensors')
clip = dict(_delete_=True, clip_model=dict(base.clip_model, vision_cfg=vision_cfg), init_cfg=init_cfg)
model = _base_.frame_queries
model.data_preprocessor = dict(
    mean=[122.7709383, 116.7460125, 104.09373615], std=[68.5005327, 66.6321579, 70.32316305]
)  # CLIP's
model.backbone = dict(type='CLIPResNet', **clip)
model.neck.in_channels = [32, 64, 128, 256]
model.decode_head.update(object_hidden=2, with_iou=True, in_channels=[32, 64, 64, 64])
score_cost = dict(type='mmdet.ClassificationCost', weight=2.0)
model.decode_head.criterion.match_costs = [score_cost, *_base_.mask_costs]
model.tracker = dict(type='TopKTracker', memory=9, top_k=5)
texts = dict(tokenizer=base.tokenizer, templates=base.templates)
model.classifier = dict(type='MaskPoolingClassifier', **clip, **texts)
