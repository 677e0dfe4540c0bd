# CLIP-VIS with CLIP's ResNet-50, frozen: backbone and, by its attention pool in each mask, the namer
_base_ = ['./ovavss_r50.py', './frame_queries.py']
clip = dict(
    clip_model='RN50-quickgelu', init_cfg=dict(type='Pretrained', checkpoint='data/weights/RN50.pt'), _delete_=True
)
model = _base_.frame_queries
model.data_preprocessor = dict(
    mean=[122.7709383, 116.7460125, 104.09373615], std=[68.5005327, 66.6321579, 70.32316305]
)  # CLIP's
model.backbone = dict(type='CLIPResNet', **clip)
model.decode_head.update(object_hidden=2, with_iou=True)
score_cost = dict(type='mmdet.ClassificationCost', weight=2.0)
model.decode_head.criterion.update(match_costs=[score_cost, *_base_.mask_costs], iou_weight=2.0)
model.tracker = dict(type='TopKTracker', memory=9, top_k=5)
model.classifier = dict(type='MaskPoolingClassifier', share_backbone=True, templates='vild', **clip)
