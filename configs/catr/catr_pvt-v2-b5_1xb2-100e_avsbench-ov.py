# CATR on AVSBench-OV. How the authors of Table 2 made it semantic is not known; ours: a query has one of N names or
# none, on every frame that has labels
_base_ = [
    '../_base_/models/catr_pvt-v2-b5.py',
    '../_base_/datasets/avsbench_ov_224.py',
    '../_base_/schedules/catr_100e.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=_base_.num_names), test_cfg=dict(window=_base_.num_frames))
train_pipeline = [*_base_.load_train, _base_.load_audio, *_base_.finish_train_catr]
train_dataloader = dict(batch_size=2, num_workers=4, dataset=dict(pipeline=train_pipeline))
epoch = 2592  # of 5,184 clips
train_cfg = dict(max_iters=100 * epoch, val_interval=epoch)
default_hooks = dict(checkpoint=dict(interval=epoch, save_best='mIoU'))
randomness = dict(seed=123)
