# CATR on AVSS, ours as on AVSBench-OV; 100 epochs of 8,498 clips
_base_ = ['./catr_pvt-v2-b5_1xb2-100e_avsbench-ov.py']
task = dict(_delete_=True, type='AVSBenchDataset', data_root=_base_.data_root, task='avss')
train_dataloader = dict(dataset=dict(**task, split='train', pipeline=_base_.train_pipeline))
test_dataset = dict(**task, test_mode=True, pipeline=_base_.test_pipeline)
val_dataloader = dict(dataset=dict(**test_dataset, split='val'))
test_dataloader = dict(dataset=dict(**test_dataset, split='test'))
epoch = 4249
train_cfg = dict(max_iters=100 * epoch, val_interval=epoch)
default_hooks = dict(checkpoint=dict(interval=epoch))
