# The model as released, for the published R50 checkpoint: see tools/model_converters
_base_ = ['./ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py']
costs = [
    dict(type='mmdet.ClassificationCost', weight=2.0),
    dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
    dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
]
bce = dict(_delete_=True, type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0)
model = dict(
    decode_head=dict(criterion=dict(match_costs=costs, loss_mask=bce)),
    classifier=dict(sound_thr=None, anchor='corner', mask_size='padded'),
)
param_scheduler = [
    dict(type='MultiStepLR', end=96228, by_epoch=False, milestones=[72171, 88209], gamma=0.1)
]
train_cfg = dict(max_iters=96228)
