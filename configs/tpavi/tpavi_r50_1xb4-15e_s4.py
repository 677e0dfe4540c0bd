# TPAVI on S4: the published binary setting, of 15 epochs; ours: the semantic setting's batch, evaluation each epoch
_base_ = [
    '../_base_/models/tpavi_r50.py',
    '../_base_/datasets/avsbench_s4.py',
    '../_base_/schedules/tpavi_60e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(num_frames=_base_.num_frames),
    decode_head=dict(num_classes=1, audio_bias=True, loss_avm=None),
    test_cfg=dict(window=_base_.num_frames),
)
epoch = 863  # of 3,452 clips
train_cfg = dict(max_iters=15 * epoch, val_begin=1, val_interval=epoch)
default_hooks = dict(checkpoint=dict(interval=epoch, save_best='J_video', rule='greater'))
randomness = dict(seed=123)
