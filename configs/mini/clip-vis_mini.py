# CLIP-VIS on the mini world, as long as the rows of the ablations: the frozen mini CLIP with a ResNet is the backbone
_base_ = ['./ov2seg_mini.py']
vision_cfg = dict(image_size=64, layers=[1, 1, 1, 1], width=8, head_width=32)
clip_model = dict(_base_.clip.clip_model, vision_cfg=vision_cfg)
init_cfg = dict(type='Pretrained', checkpoint='ovavss_mm://mini_world/clip_mini_rn.safetensors')
clip = dict(clip_model=clip_model, init_cfg=init_cfg)
score_cost = dict(type='mmdet.ClassificationCost', weight=2.0)
head = dict(object_hidden=2, with_iou=True, text_channels=None, in_channels=[32, 64, 64, 64])
parts = dict(_base_.parts, **clip)
model = dict(
    data_preprocessor=dict(
        mean=[122.7709383, 116.7460125, 104.09373615],
        std=[68.5005327, 66.6321579, 70.32316305],  # CLIP's
    ),
    backbone=dict(_delete_=True, type='CLIPResNet', **clip),
    neck=dict(in_channels=[32, 64, 128, 256]),
    decode_head=dict(**head, criterion=dict(match_costs=[score_cost, *_base_.criterion.match_costs[1:]])),
    tracker=dict(_delete_=True, type='TopKTracker', memory=9, top_k=5),
    classifier=dict(_delete_=True, type='MaskPoolingClassifier', **parts),
)
