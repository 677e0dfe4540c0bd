# Where the released models differ from the paper's text; the README has the list
bce_criterion = dict(
    match_costs=[
        dict(type='mmdet.ClassificationCost', weight=2.0),
        dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
        dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
    ],
    loss_mask=dict(_delete_=True, type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0),
)
release = dict(
    decode_head=dict(criterion=bce_criterion), classifier=dict(sound_thr=None, anchor='corner', mask_size='padded')
)
release_scheduler = [dict(type='MultiStepLR', end=96228, by_epoch=False, milestones=[72171, 88209], gamma=0.1)]
