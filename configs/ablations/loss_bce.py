# Mask loss and its matching cost: binary cross-entropy instead of focal
_base_ = ['../{{$OVAVSS_BASE:ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov}}.py']
bce = dict(_delete_=True, type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0)
costs = [
    dict(type='mmdet.ClassificationCost', weight=2.0),
    dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
    dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
]
model = dict(decode_head=dict(criterion=dict(loss_mask=bce, match_costs=costs)))
