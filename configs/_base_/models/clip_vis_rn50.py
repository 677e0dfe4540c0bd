# CLIP-VIS with CLIP's ResNet-50, frozen: backbone and, by its attention pool in each mask, the namer
_base_ = ['./ov2seg_r50.py']
clip = dict(
    clip_model='RN50-quickgelu', init_cfg=dict(type='Pretrained', checkpoint='data/weights/RN50.pt'), _delete_=True
)
model = dict(
    data_preprocessor=dict(
        mean=[122.7709383, 116.7460125, 104.09373615],
        std=[68.5005327, 66.6321579, 70.32316305],  # CLIP's
    ),
    backbone=dict(type='CLIPResNet', **clip),
    decode_head=dict(
        object_hidden=2,
        with_iou=True,
        text_channels=None,
        transformer_decoder=dict(num_layers=9),
        criterion=dict(
            match_costs=[
                dict(type='mmdet.ClassificationCost', weight=2.0),
                dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
                dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
            ],
            iou_weight=2.0,
        ),
    ),
    tracker=dict(_delete_=True, type='TopKTracker', memory=9, top_k=5),
    classifier=dict(type='MaskPoolingClassifier', share_backbone=True, templates='vild', **clip),
)
