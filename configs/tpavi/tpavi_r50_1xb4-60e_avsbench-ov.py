# TPAVI on AVSBench-OV (paper Table 2): the published semantic setting; novel names are never positive in training
_base_ = [
    '../_base_/models/tpavi_r50.py',
    '../_base_/datasets/avsbench_ov_224.py',
    '../_base_/schedules/tpavi_60e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(num_frames=_base_.num_frames),
    decode_head=dict(num_classes=_base_.num_names + 1),
    test_cfg=dict(window=_base_.num_frames),
)
default_hooks = dict(checkpoint=dict(interval=2 * _base_.epoch, save_best='mIoU'))
randomness = dict(seed=123)
