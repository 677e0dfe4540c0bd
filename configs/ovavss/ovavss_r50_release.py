# The model as released, for the published R50 checkpoint: see tools/model_converters
_base_ = ['./ovavss_r50_clip-vit-b16_1xb1-82k_avsbench-ov.py', '../_base_/models/release.py']
model = _base_.release
param_scheduler = _base_.release_scheduler
train_cfg = dict(max_iters=96228)
