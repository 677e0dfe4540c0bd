# GAVS on S4 of the mini world
_base_ = ['./gavs_mini.py']
train_pipeline = test_pipeline = _base_.test_pipeline  # all frames
task = dict(_delete_=True, type='AVSBenchDataset', data_root=_base_.data_root, task='s4')
train_dataloader = dict(dataset=dict(**task, split='train', pipeline=train_pipeline))
test_dataset = dict(**task, test_mode=True, pipeline=test_pipeline)
val_dataloader = dict(dataset=dict(**test_dataset, split='val'))
test_dataloader = dict(dataset=dict(**test_dataset, split='test'))
