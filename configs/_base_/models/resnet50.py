# ResNet-50 as the published TPAVI has it, and its channels
resnet50 = dict(
    _delete_=True,
    type='ResNet',
    depth=50,
    num_stages=4,
    out_indices=(0, 1, 2, 3),
    style='pytorch',
    norm_cfg=dict(type='BN', requires_grad=True),  # nothing is frozen there
    norm_eval=False,
    init_cfg=dict(type='Pretrained', checkpoint='data/weights/resnet50-0676ba61.pth'),
)
resnet50_channels = [256, 512, 1024, 2048]
