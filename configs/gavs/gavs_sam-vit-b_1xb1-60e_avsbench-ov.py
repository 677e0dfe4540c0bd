# GAVS on AVSBench-OV, ours: the 5,184 clips of base names, sounding or not; its row of Table 1 has no names
_base_ = ['./gavs_sam-vit-b_1xb1-60e_s4.py']
num_frames = 10
dataset = dict(
    _delete_=True,
    type='AVSBenchOVDataset',
    data_root='data/AVSBench-semantic',
    base_names='avsbench_ov',
    binary=True,
    pipeline=_base_.test_pipeline,
)
train_pipeline = [dict(type='SampleClipFrames', num_frames=num_frames), *_base_.train_pipeline]
model = dict(test_cfg=dict(window=num_frames))
train_dataloader = dict(dataset=dict(dataset, split='train', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(dataset, split='val', test_mode=True))
test_dataloader = dict(dataset=dict(dataset, split='test', test_mode=True))
epoch = 5184
train_cfg = dict(max_iters=60 * epoch, val_interval=epoch)
default_hooks = dict(checkpoint=dict(interval=epoch))
