# Mask loss and its matching cost: binary cross-entropy instead of focal
_base_ = ['../ovavss/ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py', '../_base_/models/release.py']
model = dict(decode_head=dict(criterion=_base_.bce_criterion))
