# OV2Seg on AVSBench-OV, with the data and the schedule of OV-AVSS; every frame is an image, linked when testing
_base_ = [
    '../_base_/models/ov2seg_r50.py',
    '../_base_/datasets/avsbench_ov.py',
    '../_base_/schedules/schedule_82k.py',
    '../_base_/default_runtime.py',
]
# ResNet-50 of ImageNet; the published model starts from ImageNet-21K
start = dict(type='Pretrained', checkpoint='data/weights/resnet50-0676ba61.pth')
model = dict(backbone=dict(init_cfg=start), test_cfg=dict(window=_base_.num_frames))
