# TPAVI on AVSS: the published semantic setting, 60 epochs of 8,498 clips
_base_ = ['./tpavi_r50_1xb4-60e_avsbench-ov.py']
task = dict(_delete_=True, type='AVSBenchDataset', data_root=_base_.data_root, task='avss')
train_dataloader = dict(dataset=dict(**task, split='train', pipeline=_base_.train_pipeline))
test_dataset = dict(**task, test_mode=True, pipeline=_base_.test_pipeline)
val_dataloader = dict(dataset=dict(**test_dataset, split='val'))
test_dataloader = dict(dataset=dict(**test_dataset, split='test'))
epoch = 2125
train_cfg = dict(max_iters=60 * epoch, val_begin=15 * epoch, val_interval=2 * epoch)
default_hooks = dict(checkpoint=dict(interval=2 * epoch))
