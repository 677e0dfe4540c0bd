# TPAVI on all clips of the mini world, those with novel names among them, as on AVSS
_base_ = ['./tpavi_mini.py']
task = dict(_delete_=True, type='AVSBenchDataset', data_root=_base_.data_root, task='avss')
train_dataloader = dict(dataset=dict(**task, split='train', pipeline=_base_.train_pipeline))
test_dataset = dict(**task, test_mode=True, pipeline=_base_.test_pipeline)
val_dataloader = dict(dataset=dict(**test_dataset, split='val'))
test_dataloader = dict(dataset=dict(**test_dataset, split='test'))
