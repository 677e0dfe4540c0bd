# CATR on S4 with ResNet-50, as Table 2 says, in place of PVT-v2-B5; no such code was published
_base_ = ['./catr_pvt-v2-b5_1xb2-100e_s4.py', '../_base_/models/resnet50.py']
model = dict(backbone=_base_.resnet50, neck=dict(in_channels=_base_.resnet50_channels))
