# CATR with ResNet-50, as Table 2 says it is; no such code was published
_base_ = ['./catr_pvt-v2-b5_1xb2-100e_avsbench-ov.py']
resnet50 = dict(
    _delete_=True,
    type='ResNet',
    depth=50,
    num_stages=4,
    out_indices=(0, 1, 2, 3),
    style='pytorch',
    norm_cfg=dict(type='BN', requires_grad=True),
    norm_eval=False,
    init_cfg=dict(type='Pretrained', checkpoint='data/weights/resnet50-0676ba61.pth'),
)
model = dict(backbone=resnet50, neck=dict(in_channels=[256, 512, 1024, 2048]))
