# TPAVI on AVSS with PVT-v2-B5 in place of ResNet-50
_base_ = ['./tpavi_r50_1xb4-60e_avss.py', '../_base_/models/pvt_v2_b5.py']
model = dict(backbone=_base_.pvt_v2_b5, neck=dict(in_channels=_base_.pvt_channels), decode_head=dict(extra_branch=None))
